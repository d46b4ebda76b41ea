"""Several runs on one page: their errors under the same conditions, their curves over each other, and how their recipes differ.

Each run is looked at as its own report does, on the split asked for, so a number here is the number there. Settings are compared
by dotted name, layers by their own; what all runs agree on is left out. The page refers to nothing outside itself.
"""

from collections.abc import Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from alexnet import __version__
from alexnet.durable import write_bytes
from alexnet.evaluate import Scores, Tick
from alexnet.insight import words
from alexnet.insight.figures.curves import curves, tracks
from alexnet.insight.figures.drawing import svg
from alexnet.insight.report.page import Html, card, document, element, picture, section, table
from alexnet.insight.report.single import pictures_per_second, scored
from alexnet.insight.runs import Run, names, read_run
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import Line, Plateau, Steps
from alexnet.runtime import Runtime

HEAD = (
    *("Run", "Recipe", "Top-1 error", "Top-5 error", "Loss", "Scored on", "Best on val"),
    *("Epochs", "Time", "Pictures", "Precision", "Seed"),
)
NONE = "\N{EN DASH}"  # a setting that a recipe does not have


def write_comparison(
    folders: Sequence[Path],
    out: Path,
    split: str | None,
    views: int | None,
    runtime: Runtime,
    progress: Tick,
    store: str | Path | None,
) -> list[tuple[str, Scores]]:
    """Write the page of several runs; each one's name and scores. AlexNetError as for a report of one."""
    runs = [read_run(folder, store) for folder in folders]
    found = [scored(run, split, views, runtime, progress) for run in runs]
    write_bytes(out, page(runs, found))
    return [(name, scores) for name, (_, _, scores) in zip(names(runs), found, strict=True)]


def page(runs: Sequence[Run], found: Sequence[tuple[str, int, Scores]]) -> bytes:
    """The whole page, from the runs and the (split, views, scores) of each."""
    called = names(runs)
    return document(
        f"{len(runs)} runs compared: {', '.join(called)}",
        (files("alexnet.insight.report") / "report.css").read_text("utf-8"),
        element("header", element("p", "AlexNet, several runs", class_="over"), element("h1", f"{len(runs)} runs compared")),
        _stores(runs),
        _errors(runs, called, found),
        _curves(runs),
        _settings(runs, called),
        element("footer", f"Made by alexnet {__version__}. This page refers to nothing outside itself."),
    )


def differences(recipes: Sequence[Recipe]) -> list[tuple[str, ...]]:
    """(setting, value in each recipe, ...) of the settings in which they differ, in their own order."""
    all_settings = [settings(recipe) for recipe in recipes]
    every = dict.fromkeys(name for each in all_settings for name in each)
    rows = [(name, *(each.get(name, NONE) for each in all_settings)) for name in every]
    return [row for row in rows if len(set(row[1:])) > 1]


def settings(recipe: Recipe) -> dict[str, str]:
    """Every setting of a recipe by its dotted name, in words."""
    network, training = recipe.network, recipe.training
    told = {"recipe": recipe.name}
    told |= {f"network.{part.name}": _said(getattr(network, part.name)) for part in fields(network) if part.name != "layers"}
    told |= {"network.layers": ", ".join(words.called(layer) for layer in network.layers)}
    for layer in network.layers:
        if hasattr(layer, "name"):
            told |= {
                f"{layer.name}.{part.name}": _said(getattr(layer, part.name)) for part in fields(layer) if part.name != "name"
            }
    told |= {f"views.{part.name}": _said(getattr(recipe.views, part.name)) for part in fields(recipe.views)}
    told |= {f"training.{part.name}": _said(getattr(training, part.name)) for part in fields(training) if part.name != "apart"}
    for apart in training.apart:
        told |= {f"training.rate of {apart.suffix}": _said(apart.rate)} if apart.rate is not None else {}
        told |= {f"training.decay of {apart.suffix}": _said(apart.decay)} if apart.decay is not None else {}
    return told


def _said(value: Any) -> str:
    """A setting's value as people write it."""
    match value:
        case None:
            return NONE
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple():
            return words.times(*value)
        case Steps() | Line() | Plateau():
            return words.schedule(value)
        case _:
            return str(value)


# ---- the sections


def _stores(runs: Sequence[Run]) -> Html:
    """A warning where the runs did not learn from the same pictures, or are not scored on the same."""
    told = []
    if len({run.store.digest for run in runs}) > 1:
        told.append("These runs have different stores: their errors are of different pictures.")
    if len({run.about.get("store_digest", run.store.digest) for run in runs}) > 1:
        told.append("These runs did not learn from the same pictures.")
    return element("div", *(element("p", element("strong", text)) for text in told), class_="notice") if told else Html()


def _errors(runs: Sequence[Run], called: Sequence[str], found: Sequence[tuple[str, int, Scores]]) -> Html:
    """Errors, times and where they come from, a run a row, the smallest error first."""
    rows = []
    for run, name, (split, views, scores) in zip(runs, called, found, strict=True):
        epochs, best = run.of("epoch"), run.best
        speed = pictures_per_second(run)
        row = (
            *(name, run.model.recipe.name, words.percent(scores.top1_error, 2), words.percent(scores.top5_error, 2)),
            *(f"{scores.loss:.3f}", f"{split}, {scores.pictures:,} × {views}"),
            words.percent(best["val_top1_error"], 2) if best else NONE,
            f"{epochs[-1]['epoch'] if epochs else 0} of {run.model.recipe.training.epochs}",
            *(words.duration(epochs[-1]["seconds"]) if epochs else NONE, f"{speed:,.0f}/s" if speed else NONE),
            *(str(run.about.get("precision", NONE)), str(run.about.get("seed", NONE))),
        )
        rows.append((scores.top1_error, row))
    ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    note = "Each run's best model, scored as its own report does, on so many pictures and views. Best on val: one view."
    return section("Errors and times", note, element("div", table(HEAD, ordered), class_="numbers"))


def _curves(runs: Sequence[Run]) -> Html:
    """The curves over each other, of the runs that have recorded something."""
    begun = [run for run in runs if run.of("step")]
    if not begun:
        return Html()
    alt = f"Loss, validation error and learning rate of {', '.join(names(begun))} over epochs."
    note = "A colour is a run; its training loss is a mean over half an epoch. Marks on top say where a rate fell."
    return section("How they learnt", note, card(picture(svg(curves(tracks(begun))), "image/svg+xml", alt), "card full"))


def _settings(runs: Sequence[Run], called: Sequence[str]) -> Html:
    """What the recipes differ in."""
    rows = differences([run.model.recipe for run in runs])
    if not rows:
        return section("What differs", "Nothing: these recipes are the same.")
    note = "The settings in which the recipes differ; on all others they agree."
    return section("What differs", note, table(("Setting", *called), rows))
