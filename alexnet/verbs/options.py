"""What several verbs share: their familiar options, a recipe as the options ask for it, and how bad pictures end them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.errors import AlexNetError, UsageError

if TYPE_CHECKING:
    from alexnet.recipes.recipe import Recipe

Verb = Callable[..., Any]
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
MODEL_FILE = click.Path(path_type=Path)
WORKERS = "Threads that read pictures; default: 2, or all cores beside a GPU."


def computing(verb: Verb) -> Verb:
    """The options of every verb that computes with a network."""
    for option in (
        click.option("--workers", type=click.IntRange(1), default=None, help=WORKERS),
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp64"]), default="auto", show_default=True),
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ..."),
    ):
        verb = option(verb)
    return verb


def given(name: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def refuse_given(*names: str) -> None:
    """UsageError where one of these options was given: a resumed run is what it was."""
    refused = [name for name in names if given(name)]
    if refused:
        flags = {option.name: option.opts[0] for option in click.get_current_context().command.params}
        raise UsageError(
            f"{', '.join(flags[name] for name in refused)}: a resumed run keeps its own; leave it out or start a new run"
        )


def configured(recipe: "Recipe", epochs: int | None, batch: int | None, lr: float | None, settings: tuple[str, ...]) -> "Recipe":
    """A recipe after the familiar flags and `--set`, in that order."""
    from alexnet.recipes.recipe import with_epochs, with_rate
    from alexnet.recipes.settings import override

    recipe = with_epochs(recipe, epochs) if epochs is not None else recipe
    recipe = with_rate(recipe, lr) if lr is not None else recipe
    for setting in ([f"training.batch={batch}"] if batch is not None else []) + list(settings):
        recipe = override(recipe, setting)
    return recipe


def must_be_read(unread: int, pictures: int) -> None:
    """AlexNetError where some pictures could not be read: the others have had their answers by then."""
    if unread:
        raise AlexNetError(f"{unread} of {pictures} pictures could not be read; the reasons stand beside their names")
