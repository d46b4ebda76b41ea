"""The command: `alexnet VERB ...`, the same as `python -m alexnet VERB ...`: how a verb begins and how it ends.

The verbs themselves are in `verbs/`. Nothing heavy is imported before a verb needs it, so that help is there at once. A failure
that the user can mend ends as one line with status 1, a wrong call with 2, Ctrl-C and SIGTERM with 130 and 143 once the state is
saved; `--debug` shows the traceback.
"""

import os
import signal
import sys
import traceback

import click

from alexnet import __version__
from alexnet.errors import AlexNetError
from alexnet.verbs.experimenting import experiment
from alexnet.verbs.looking import describe, features, neighbours, report
from alexnet.verbs.machine import ALLOCATOR, doctor, measure
from alexnet.verbs.making import demo, prepare, train
from alexnet.verbs.showing import show
from alexnet.verbs.using import evaluate, import_, predict

COMPUTING = ("demo", "train", "evaluate", "predict", "show", "report", "features", "neighbours", "experiment")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="alexnet")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure; may stand anywhere.")
def cli() -> None:
    """AlexNet, the whole 2012 system: prepare pictures, train, evaluate, look inside, use.

    \b
    Start here:   alexnet demo
    Your own:     alexnet prepare PICTURES STORE
                  alexnet train STORE --out RUN
                  alexnet predict RUN/model.safetensors cat.jpg
    """


for verb in (
    *(demo, prepare, train, evaluate, predict, describe, show, report, features, neighbours),
    *(experiment, import_, measure, doctor),
):
    cli.add_command(verb)


def launch() -> None:
    """The command itself: `main` in a process whose memory allocator was told not to hand large tensors back after each step.

    glibc reads these settings before the first line of Python, so the process replaces itself once; its id stays the same.
    Elsewhere the settings mean nothing. A GLIBC_TUNABLES of one's own is left alone.
    """
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if verb in COMPUTING and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = ALLOCATOR
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    main()


def main() -> None:
    """Run a verb and turn whatever ends it into an exit status."""
    debug = "--debug" in sys.argv
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(cli(args=[word for word in sys.argv[1:] if word != "--debug"], prog_name="alexnet", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.format_message())
        sys.exit(2)
    except click.ClickException as wrong:
        _end(f"{wrong.format_message()} (alexnet --help lists the verbs)", 2, debug)
    except AlexNetError as failed:
        _end(str(failed), failed.status, debug)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted", 130, debug)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        sys.exit(1)
    except RuntimeError as failed:
        if type(failed).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        _end("the GPU's memory ran out; try a smaller --batch-size", 1, debug)
    except OSError as failed:
        where = f"{failed.filename}: " if failed.filename else ""
        _end(f"{where}{failed.strerror or failed}; check the path, its permissions and the space left", 1, debug)


def _end(text: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"alexnet: {text}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    launch()
