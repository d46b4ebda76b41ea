"""A run's report: one page, report.html, with its errors, curves, filters, predictions, mistakes and recipe.

It reads what a run has left (recipe.json, metrics.jsonl, model.safetensors) and the store it was trained on, sees one split once
and derives everything from those probabilities, so no two numbers of the page can disagree. Examples are spread evenly over the
split, not picked. The figures are those of `alexnet show`. The page refers to nothing outside itself: it can be mailed, printed
and kept. It knows no training code.
"""

import io
import json
import math
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alexnet import __version__
from alexnet.data.remote import is_address
from alexnet.data.store import Split, Store
from alexnet.durable import write_bytes
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import Scores, predictions, scored_split, scores
from alexnet.insight import words
from alexnet.insight.figures import curves
from alexnet.insight.figures.confusion import FEW, class_errors, confused_pairs, confusion
from alexnet.insight.figures.drawing import png, svg
from alexnet.insight.figures.filters import first_layer, kernels
from alexnet.insight.figures.maps import Passed, maps, passed
from alexnet.insight.figures.predictions import BARS, spread
from alexnet.insight.figures.saliency import COARSE, Looked, looked, saliency
from alexnet.insight.figures.schedule import planned, schedule
from alexnet.insight.report.page import Html, card, definitions, document, element, joined, picture, section, table
from alexnet.insight.runs import MODEL, Record, Run, read_run
from alexnet.model import Model
from alexnet.network.accounting import costs
from alexnet.network.geometry import plan
from alexnet.recipes.settings import to_json
from alexnet.runtime import Runtime

REPORT = "report.html"
PICTURES = 8  # examples, and mistakes
LOOKED = 2  # pictures whose saliency is shown
SIDE = 224  # pixels of a shown picture, at most
SCREEN, COLOURS = 96, 96  # pixels an inch, and colours, of the large figures
SMALL = 100  # pictures below this are enlarged without smoothing
PAIRS, ENDS = 15, 10  # most confused pairs, best and worst classes shown otherwise

SPELT = {"gpu": "GPU", "bf16 units": "bf16 units"}  # where a capital letter at the front is not enough


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model says of a split: probabilities float32 (N, classes) in stored order, over so many views, in a precision.

    With them the stations of one picture, and where it looks in some.
    """

    split: Split
    views: int
    precision: str
    probability: np.ndarray
    passed: Passed
    looked: tuple[Looked, ...]

    @property
    def said(self) -> np.ndarray:
        """The likeliest class of each picture, int64 (N,)."""
        return self.probability.argmax(1)

    @property
    def scores(self) -> Scores:
        """The errors and the loss."""
        return scores(torch.from_numpy(self.probability), torch.from_numpy(self.split.labels))


def write_report(
    run: Path,
    split: str | None,
    views: int | None,
    runtime: Runtime,
    progress: Callable[[int, int], None],
    store: str | Path | None = None,
) -> tuple[Path, Scores]:
    """Write RUN/report.html; its path and the scores it tells. `progress` is told (done, all) pictures.

    `split` None: test where the store has one with pictures in it, else val. `views`: 1, 9, 10, or None for the model's own.
    AlexNetError where the run, its model or its store is not there or damaged, UsageError for other views.
    """
    left = read_run(run, store)
    seen = look(left, split, views, runtime, progress)
    path = run / REPORT
    write_bytes(path, page(left, seen))
    return path, seen.scores


def look(run: Run, split: str | None, views: int | None, runtime: Runtime, progress: Callable[[int, int], None]) -> Seen:
    """The model's probabilities for every picture of a split, and a closer look at some; AlexNetError where there is none."""
    chosen, views, probability = _answers(run, split, views, runtime, progress)
    seer = run.model.network, run.model.view
    some = spread(LOOKED, len(chosen))
    close = tuple(looked(seer, chosen.names[record], chosen.pixels(record), None, runtime, COARSE) for record in some)
    through = passed(seer, chosen.pixels(some[0]), runtime)
    return Seen(chosen, views, runtime.precision, probability.numpy(), through, close)


def scored(
    run: Run, split: str | None, views: int | None, runtime: Runtime, progress: Callable[[int, int], None]
) -> tuple[str, int, Scores]:
    """The split, the views and the scores that a report would tell."""
    chosen, views, probability = _answers(run, split, views, runtime, progress)
    return chosen.name, views, scores(probability, torch.from_numpy(chosen.labels))


def _answers(
    run: Run, split: str | None, views: int | None, runtime: Runtime, progress: Callable[[int, int], None]
) -> tuple[Split, int, torch.Tensor]:
    """The split, the views, and the probabilities (N, classes) of its pictures; the network then is where it computes."""
    views = views or run.model.recipe.views.test
    if views not in (1, 9, 10):
        raise UsageError(f"{views} views: a report can be made with 1, 9 or 10")
    chosen = scored_split(run.store, split)
    seer = run.model.network.to(runtime.device, runtime.dtype), run.model.view
    return chosen, views, torch.cat([part for part, _ in predictions([seer], chosen, views, runtime, progress)])


def page(run: Run, seen: Seen) -> bytes:
    """The whole page."""
    title = f"{run.model.recipe.name} on {_name(run.store)}"
    style = (files("alexnet.insight.report") / "report.css").read_text("utf-8")
    return document(
        f"{title}: {words.percent(seen.scores.top1_error)} top-1 error",
        style,
        _header(run, title),
        _headline(seen.scores, len(run.store.classes)),
        _conditions(run, seen),
        _warnings(run),
        _curves(run),
        _filters(run.model),
        _examples(seen, run.store.classes),
        _mistakes(seen, run.store.classes),
        _confusion(seen, run.store.classes),
        _within(seen, run.store.classes),
        _recipe(run.model),
        _origin(run),
        _commands(run, seen),
        element("footer", f"Made by alexnet {__version__}. This page refers to nothing outside itself."),
    )


# ---- the numbers


def _header(run: Run, title: str) -> Html:
    store, policy = run.store, run.store.policy
    counts = ", ".join(f"{len(split):,} {name}" for name, split in store.splits.items() if len(split))
    total = words.number(sum(map(len, store.splits.values())), "picture")
    colours = "RGB" if policy.channels == 3 else "grey"
    classes = words.number(len(store.classes), "class", "classes")
    text = f"{classes}, {total} ({counts}), {words.times(policy.size, policy.size)} {colours}"
    text += f"; {words.number(len(store.bad), 'unreadable picture')} left out." if store.bad else "."
    return element("header", element("p", "AlexNet, report of a run", class_="over"), element("h1", title), element("p", text))


def _headline(of: Scores, classes: int) -> Html:
    guess = f"{words.percent(100 * (1 - 1 / classes))} by guessing"
    wrong = of.top1_error / 100
    doubt = (
        f"± {100 * math.sqrt(wrong * (1 - wrong) / of.pictures):.1f} points standard error; {guess}" if 0 < wrong < 1 else guess
    )
    large = [(words.percent(of.top1_error), "top-1 error", doubt)]
    if of.top5_error is not None:
        large.append((words.percent(of.top5_error), "top-5 error", f"{words.percent(100 * (1 - 5 / classes))} by guessing"))
    large.append((f"{of.loss:.3f}", "loss", f"cross-entropy; {math.log(classes):.3f} by guessing"))
    shown = [element("div", element("b", value), name, element("span", note)) for value, name, note in large]
    return element("div", *shown, class_="headline")


def _conditions(run: Run, seen: Seen) -> Html:
    """Under which conditions the numbers above hold."""
    epochs, made = run.of("epoch"), run.model.made
    last = epochs[-1] if epochs else {"epoch": 0, "seconds": 0.0}
    speed = pictures_per_second(run)
    before = run.about.get("precision", seen.precision)
    precision = before if before == seen.precision else f"{before} in training, {seen.precision} here"
    pairs = [
        ("Measured on", f"{seen.split.name}, {words.number(len(seen.split), 'picture')}"),
        ("Views of each picture", f"{seen.views} ({words.TEST_VIEWS[seen.views]})"),
        ("Epochs", f"{last['epoch']} of {run.model.recipe.training.epochs}"),
        ("This model is from", f"epoch {made['epoch']}{', the best on val' if run.validated else ''}"),
        ("Training time", words.duration(last["seconds"])),
        ("Training speed", f"{speed:,.{0 if speed >= 10 else 1}f} pictures/s" if speed else "not recorded"),
        ("Precision", precision),
        ("Seed", str(run.about.get("seed", made.get("seed")))),
    ]
    return definitions(pairs)


def pictures_per_second(run: Run) -> float:
    """How fast a run has trained in all, as its last record of a step says; 0 where it has none."""
    steps = run.of("step")
    return steps[-1]["pictures_per_second"] if steps else 0.0


def _warnings(run: Run) -> Html:
    """What the run and the store complained of."""
    told = [f"After {when}: {text}." for when, text in _complaints(run.records)]
    told += [f"The store: {text}." for text in run.store.warnings]
    if run.about.get("store_digest") != run.store.digest:
        told.append("The store is not the one this run began with; the numbers above are about the store as it is now.")
    if not told:
        return Html()
    items = [element("li", text) for text in told]
    shown, rest = element("ul", *items[:3]), items[3:]
    more = element("details", element("summary", f"{len(rest)} more"), element("ul", *rest)) if rest else Html()
    return element("div", element("strong", words.number(len(told), "warning")), shown, more, class_="notice")


def _complaints(records: Iterable[Record]) -> list[tuple[str, str]]:
    """(when, text) of the run's warnings; one that came back epoch after epoch is told once, as it was the last time."""
    found: list[tuple[int, int, str]] = []
    epoch = 0
    for record in records:
        if record["kind"] == "epoch":
            epoch = record["epoch"]
        if record["kind"] == "warning":
            again = found and found[-1][2].partition(":")[0] == record["text"].partition(":")[0]
            first = found.pop()[0] if again else epoch
            found.append((first, epoch, record["text"]))
    return [(f"epoch {last}" if first == last else f"each of epochs {first} to {last}", text) for first, last, text in found]


# ---- the figures


def _curves(run: Run) -> Html:
    steps, epochs, recipe = run.of("step"), run.of("epoch"), run.model.recipe
    if not steps:
        return Html()
    panels: list[curves.Panel] = [curves.loss]
    told = [f"Loss over {words.number(len(epochs), 'epoch')}, at last {steps[-1]['loss']:.3f} for a training batch."]
    if best := run.best:
        panels.append(curves.errors)
        told.append(
            f"Validation error after each epoch, at best {words.percent(best['val_top1_error'])} after epoch {best['epoch']}."
        )
    panels.append(curves.rates)
    told.append(f"Learning rate: {words.schedule(recipe.training.rate)}.")
    track = curves.Track(run.folder.name, steps, run.validated, recipe.training.smoothing > 0, recipe.views.sizes)
    shown = [_drawn(svg(curves.one(panel, [track])), alt) for panel, alt in zip(panels, told, strict=True)]
    note = "The loss of single batches is faint, its mean over half an epoch strong; a mark on top says where the rate fell."
    note += " Validation sees the centre of each picture only." if best else " There was no validation split."
    return section("How it learnt", note, element("div", *shown, class_="grid"))


def _drawn(figure: bytes, alt: str, kind: str = "card") -> Html:
    return card(picture(figure, "image/svg+xml", alt), kind)


def _filters(model: Model) -> Html:
    """The first convolution's kernels, as in the paper's figure 3."""
    try:
        name, weight, towers = first_layer(model)
    except AlexNetError:  # a net without a convolution has none
        return Html()
    maps, channels, size, _ = weight.shape
    note = f"The {maps} kernels of {name}, {words.times(size, size, channels)}, each scaled to its own range around grey."
    note += " The upper half belongs to one tower, the lower to the other." if towers == 2 else ""
    image = picture(_png(kernels(weight, towers)), "image/png", note)
    return section("What the first layer looks for", note, card(image, "card kernels"))


def _within(seen: Seen, classes: tuple[str, ...]) -> Html:
    """The stations of a picture, and where the network looks in some."""
    stations = ", ".join(seen.passed.stations)
    through = _photograph(png(maps(seen.passed), SCREEN), f"Maps of one picture at the stations {stations}.")
    said = "; ".join(f"{classes[each.label]}, {words.share(each.probability)}" for each in seen.looked)
    close = _photograph(
        png(saliency(seen.looked, classes), SCREEN), f"Gradient and occlusion of {len(seen.looked)} views: {said}."
    )
    note = (
        "Where the answer comes from: how it depends on each pixel (gradient), what it loses where a patch is covered "
        "(occlusion, blue); and what a picture becomes on its way, some maps of each station, blue above zero and rust below."
    )
    return section("What happens inside", note, card(close), card(through))


def _photograph(data: bytes, alt: str) -> Html:
    """A large PNG in fewer colours: its own would make the page heavy, and nobody could tell."""
    return picture(_png(Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS)), "image/png", alt)


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return data.getvalue()


# ---- the pictures


def _examples(seen: Seen, classes: tuple[str, ...]) -> Html:
    """Pictures spread over the split with the likeliest classes, as in the paper's figure 4."""
    shown = [_example(seen, index, classes) for index in spread(PICTURES, len(seen.split))]
    note = "Pictures from all over the split, not picked. Below each stands its true class, then the likeliest answers."
    return section("What it says", note, element("div", *shown, class_="pictures"))


def _mistakes(seen: Seen, classes: tuple[str, ...]) -> Html:
    """The pictures for which the most probability was on a wrong class."""
    worst = worst_mistakes(seen.probability, seen.split.labels)[:PICTURES]
    if not len(worst):
        return section("Its worst mistakes", f"None: all {words.number(len(seen.split), 'picture')} are right.")
    shown = [_example(seen, int(index), classes) for index in worst]
    note = "The pictures of the split on which it was surest of a wrong answer. A wrong label shows up here, too."
    return section("Its worst mistakes", note, element("div", *shown, class_="pictures"))


def worst_mistakes(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the wrongly answered pictures, the surest mistake first; ties in stored order."""
    wrong = np.flatnonzero(probability.argmax(1) != labels)
    return wrong[np.argsort(-probability[wrong].max(1), kind="stable")]


def _example(seen: Seen, index: int, classes: tuple[str, ...]) -> Html:
    """One picture of the split, its name, its true class and bars for the likeliest ones."""
    true = int(seen.split.labels[index])
    name = seen.split.names[index]
    caption = element(
        "figcaption",
        element("span", classes[true], class_="true"),
        element("span", name, class_="file", title=name),
        _bars(seen.probability[index], true, classes),
    )
    return element("figure", _thumbnail(seen.split.pixels(index), f"A picture of the class {classes[true]}"), caption)


def _bars(probability: np.ndarray, true: int, classes: tuple[str, ...]) -> Html:
    likeliest = np.argsort(-probability, kind="stable")[:BARS].tolist()
    return element("ol", *(_bar(classes[label], float(probability[label]), label == true) for label in likeliest), class_="bars")


def _bar(name: str, probability: float, right: bool) -> Html:
    said = element("span", name, class_="name", title=name)
    value = element("span", f"{'✓ ' if right else ''}{words.share(probability)}", class_="p")
    return element("li", said, value, class_="right" if right else "other", style=f"--p:{100 * probability:.1f}%")


def _thumbnail(pixels: np.ndarray, alt: str) -> Html:
    """A record (S, S, C), no larger than needed; small ones as PNG, so that every pixel can be seen."""
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if image.width < SMALL:
        return picture(_png(image), "image/png", alt, "small")
    data = io.BytesIO()
    image.resize((min(SIDE, image.width),) * 2, Image.Resampling.LANCZOS).save(data, "JPEG", quality=85)
    return picture(data.getvalue(), "image/jpeg", alt)


# ---- the confusion


def _confusion(seen: Seen, classes: tuple[str, ...]) -> Html:
    labels, said = seen.split.labels, seen.said
    image = _drawn(svg(confusion(labels, said, classes, pairs=False)), _spoken(labels, said, classes))
    if len(classes) <= FEW:
        note = "Pictures counted by what they are (rows) and what it said (columns); the right answers lie on the diagonal."
        return section("What it confuses", note, image)
    note = f"The {len(classes)} classes at a glance, the pairs taken for each other most often, and the classes at both ends."
    return section("What it confuses", note, image, _pairs(labels, said, classes), *_ends(labels, said, classes))


def _spoken(labels: np.ndarray, said: np.ndarray, classes: tuple[str, ...]) -> str:
    """The matrix for those who cannot see it."""
    pairs = [
        f"{classes[true]} taken for {classes[other]} {count} times" for true, other, count in confused_pairs(labels, said)[:3]
    ]
    return f"Confusion of {len(classes)} classes. Most often: {'; '.join(pairs) or 'nothing confused'}."


def _pairs(labels: np.ndarray, said: np.ndarray, classes: tuple[str, ...]) -> Html:
    counts = np.bincount(labels, minlength=len(classes))
    rows = [
        (classes[true], classes[other], f"{count:,} of {counts[true]:,}", words.percent(100 * count / counts[true], 0))
        for true, other, count in confused_pairs(labels, said)[:PAIRS]
    ]
    return element("div", table(("It was", "It said", "Pictures", "Share"), rows), class_="numbers")


def _ends(labels: np.ndarray, said: np.ndarray, classes: tuple[str, ...]) -> list[Html]:
    ranked = class_errors(labels, said)
    ends = (("Hardest classes", ranked[:ENDS]), ("Easiest classes", ranked[::-1][:ENDS]))
    head = ("Class", "Wrong", "Error")
    return [
        joined(
            [element("h3", title), element("div", table(head, (_ranked(*entry, classes) for entry in some)), class_="numbers")]
        )
        for title, some in ends
    ]


def _ranked(label: int, mistakes: int, pictures: int, classes: tuple[str, ...]) -> tuple[str, str, str]:
    return classes[label], f"{mistakes:,} of {pictures:,}", words.percent(100 * mistakes / pictures, 0)


# ---- the recipe and where it comes from


def _recipe(model: Model) -> Html:
    recipe = model.recipe
    settings = element(
        "div",
        *(element("h3", "What it sees"), definitions(words.views(recipe.views))),
        *(element("h3", "How it learns"), definitions(words.training(recipe.training))),
        class_="settings",
    )
    drawn = _drawn(svg(schedule(planned(recipe))), f"Schedules: {words.schedule(recipe.training.rate)}.")
    whole = element("pre", json.dumps(to_json(recipe), indent=1, ensure_ascii=False))
    details = element("details", element("summary", "The recipe in full, as JSON"), whole)
    return section(f"The recipe: {recipe.name}", words.network(recipe), _layers(model), settings, drawn, details)


def _layers(model: Model) -> Html:
    """The layers in the order in which data flows, with what each costs."""
    network, classes = model.recipe.network, len(model.view.classes)
    spent = costs(network, classes)
    rows = [
        (
            cost.name if cost.name != cost.kind else "",
            words.layer(step.layer, any(step.overhang)),
            words.shape(cost.shape),
            f"{cost.parameters:,}" if cost.parameters else "",
            f"{cost.multiply_adds:,}" if cost.multiply_adds else "",
        )
        for step, cost in zip(plan(network, classes), spent, strict=True)
    ]
    total = ("", "in all", "", f"{sum(cost.parameters for cost in spent):,}", f"{sum(cost.multiply_adds for cost in spent):,}")
    head = ("Layer", "What it does", "Output", "Parameters", "Multiply-adds")
    return element("div", table(head, rows, total), class_="numbers layers")


def _origin(run: Run) -> Html:
    """Where and of what the model was made."""
    pairs = [(SPELT.get(key, key.capitalize()), str(value)) for key, value in run.model.made.get("machine", {}).items()]
    pairs += [
        ("Device", str(run.about.get("device", "not recorded"))),
        ("Precision of training", str(run.about.get("precision", "not recorded"))),
    ]
    digest = [("Store", run.store.path.name), ("Store digest", run.store.digest)]
    return section(
        "Where it comes from",
        "The machine and the versions it was trained with, and the pictures.",
        element("div", definitions(pairs + digest), class_="settings"),
    )


def _commands(run: Run, seen: Seen) -> Html:
    """The lines to use the model with, from the folder this page lies in."""
    address = run.store.place.address
    store = shlex.quote(address if is_address(address) else os.path.relpath(run.store.path, run.folder.resolve()))
    lines = [
        f"alexnet evaluate {MODEL} {store} --split {seen.split.name} --views {seen.views}",
        f"alexnet predict {MODEL} PICTURE",
    ]
    note = joined(["From the folder of this page, with the model in ", element("code", MODEL), "."])
    return section("Use it", note, element("pre", "\n".join(lines)))


def _name(store: Store) -> str:
    return store.path.name.removesuffix(".store")
