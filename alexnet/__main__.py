"""The program `alexnet`, the same as `python -m alexnet`: how a command starts and how it ends.

The commands are in `cli/`. Nothing heavy is imported before a command needs it, so that help is
there at once. A failure that the user can mend ends as one line with status 1, a wrong call with
2, Ctrl-C and SIGTERM with 130 and 143 once the state is saved; `--debug` shows the traceback.
"""

import signal
import sys
import traceback
from types import FrameType

import click

from alexnet import __version__
from alexnet.cli.benchmark import benchmark
from alexnet.cli.demo import demo
from alexnet.cli.describe import describe
from alexnet.cli.doctor import doctor
from alexnet.cli.evaluate import evaluate
from alexnet.cli.experiment import experiment
from alexnet.cli.export import export
from alexnet.cli.features import features
from alexnet.cli.import_ import import_
from alexnet.cli.neighbors import neighbors
from alexnet.cli.options import OrderedGroup
from alexnet.cli.predict import predict
from alexnet.cli.prepare import prepare
from alexnet.cli.report import report
from alexnet.cli.serve import serve
from alexnet.cli.show import show
from alexnet.cli.train import train
from alexnet.cli.weights import weights
from alexnet.core.allocator import restart_with_allocator_settings
from alexnet.core.errors import AlexNetError

COMPUTING = (
    "demo",
    "train",
    "evaluate",
    "predict",
    "show",
    "report",
    "features",
    "neighbors",
    "experiment",
    "export",
    "serve",
)


@click.group(
    cls=OrderedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="alexnet")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show the traceback of a failure; may stand anywhere.",
)
def cli() -> None:
    """AlexNet, the whole 2012 system: prepare, train, evaluate, look inside, use.

    \b
    Example:      alexnet demo
    Your images:  alexnet prepare IMAGES DATASET
                  alexnet train DATASET --out RUN
                  alexnet predict RUN cat.jpg
    """


IN_ORDER_OF_USE = (
    demo,
    prepare,
    train,
    evaluate,
    predict,
    describe,
    show,
    features,
    neighbors,
    experiment,
    report,
    weights,
    import_,
    export,
    serve,
    benchmark,
    doctor,
)
for command in IN_ORDER_OF_USE:
    cli.add_command(command)


def launch() -> None:
    """Run `main`, for computing commands with an allocator that keeps large tensors."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if command in COMPUTING:
        restart_with_allocator_settings()
    main()


def main() -> None:
    """Run a command and turn whatever ends it into an exit status."""
    debug = "--debug" in sys.argv
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _exit_by_signal)
    try:
        words = [word for word in sys.argv[1:] if word != "--debug"]
        sys.exit(cli(args=words, prog_name="alexnet", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _fail(f"{error.format_message()} ({_help_hint(error)})", 2, debug)
    except AlexNetError as error:
        _fail(str(error), error.status, debug)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130, debug)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        _fail("the GPU's memory ran out; try a smaller --batch-size", 1, debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = error.strerror or error
        advice = "check the path, its permissions and the space left"
        _fail(f"{where}{what}; {advice}", 1, debug)


def _help_hint(error: click.ClickException) -> str:
    """Name the help of the command that was called wrongly."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or context.parent is None:
        return "alexnet --help lists the commands"
    return f"see {context.command_path} --help"


def _exit_by_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _fail(text: str, status: int, debug: bool) -> None:
    """Print the one line of a failure, after its traceback with --debug, and exit."""
    if debug:
        traceback.print_exc()
    print(f"alexnet: {text}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    launch()
