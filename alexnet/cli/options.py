"""What several commands share: their common options, and how unreadable images end them.

An option that means the same everywhere is declared here once, with the same flag and help.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import click
from click.shell_completion import CompletionItem

from alexnet.core.errors import AlexNetError

Command = Callable[..., Any]


class OrderedGroup(click.Group):
    """A group whose help lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return list(self.commands)


class ModelFile(click.Path):
    """The type of a MODEL: a model file, a run's directory, or the name of public weights.

    A directory stands for its run's best model. Weights are fetched where they are not in the
    cache, with their progress and their license on standard error.
    """

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path of the model file; AlexNetError where there is none."""
        if ctx is not None and ctx.resilient_parsing:  # only the shell's completion asks
            return Path(value)

        from alexnet.core.console import print_status, progress_bar
        from alexnet.models.model_file import find_model_file

        return find_model_file(Path(value), progress_bar, print_status)


class Location(click.ParamType):
    """The type of a path, a pattern or an address, kept as text; the shell completes paths."""

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete files and folders."""
        return [CompletionItem(incomplete, type="file")]


PATH = click.Path(path_type=Path)
LOCATION = Location()
MODEL = ModelFile()

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
SEED = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Random seed.",
)
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting of the recipe, by its dotted name.",
)
EPOCHS = click.option(
    "--epochs",
    type=click.IntRange(1),
    default=None,
    help="Stretch or shorten the recipe's schedules to this number.",
)
BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(1), default=None, help="Default: the recipe's."
)
LR = click.option(
    "--lr",
    type=float,
    default=None,
    help="Largest learning rate of the schedule; the others in proportion.",
)
CROPS = click.option(
    "--crops",
    type=click.Choice(["1", "9", "10"]),
    default=None,
    help="Crops averaged for an image; default: the model's own number.",
)
SPLIT = click.option("--split", default=None, help="Split of the dataset; default: test, else val.")
LAYER = click.option(
    "--layer",
    default="fc7",
    show_default=True,
    help="Layer whose output is taken.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=None,
    help="Threads that read images; default: 2, with a GPU all cores.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp64"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where the hardware has units for it.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")


def runtime_options(command: Command) -> Command:
    """Add the options of a command that computes with a network."""
    return DEVICE(PRECISION(WORKERS(command)))


def given_options() -> dict[str, str]:
    """Return the options on the command line: the parameter's name -> its flag, in order."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return {
        str(option.name): option.opts[0]
        for option in context.command.params
        if context.get_parameter_source(str(option.name)) is source
    }


def parse_crops(crops: str | None) -> Literal[1, 9, 10] | None:
    """Return the value of --crops as a number; None where it is not given."""
    return None if crops is None else cast(Literal[1, 9, 10], int(crops))


def require_all_readable(unreadable: int, images: int) -> None:
    """Raise AlexNetError if some images could not be read, after the results of the others."""
    if unreadable:
        raise AlexNetError(
            f"{unreadable} of {images} images could not be read; their lines give the reasons"
        )
