"""Gather the text parts of a run's report: dataset, scores, conditions, warnings, commands.

Every function returns plain text, pairs of term and value, or a list of them.
"""

import math
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from alexnet.analysis.format import (
    format_count,
    format_percent,
    format_size,
    format_time,
)
from alexnet.analysis.report.scoring import RunAnalysis, SplitPredictions
from alexnet.analysis.report.values import HeadlineNumber
from alexnet.data.prepared import PreparedDataset
from alexnet.data.remote import is_address
from alexnet.evaluation.evaluate import Scores
from alexnet.models.model_file import MODEL_FILE
from alexnet.recipes.describe import (
    TEST_CROPS,
    Pairs,
)
from alexnet.training.run_dir import Record, Run

# Names of machine facts for which a capital first letter is not enough.
MACHINE_LABELS = {"gpu": "GPU", "bf16 units": "bf16 units"}


def dataset_summary(dataset: PreparedDataset) -> str:
    """Describe a dataset in one sentence: classes, images, splits, size."""
    splits = [f"{len(split):,} {name}" for name, split in dataset.splits.items() if len(split)]
    classes = format_count(len(dataset.classes), "class", "classes")
    images = format_count(sum(map(len, dataset.splits.values())), "image")
    config = dataset.decode_config
    size = format_size(config.size, config.size)
    color = "RGB" if config.channels == 3 else "grayscale"
    text = f"{classes}, {images} ({', '.join(splits)}), {size} {color}"
    if dataset.bad:
        text += f"; {format_count(len(dataset.bad), 'unreadable image')} left out"
    return f"{text}."


def headline(scores: Scores, num_classes: int) -> list[HeadlineNumber]:
    """Return errors and loss, each next to what guessing would give."""
    numbers = [
        HeadlineNumber(
            format_percent(scores.top1_error), "top-1 error", _top1_note(scores, num_classes)
        )
    ]
    if scores.top5_error is not None:
        chance = format_percent(100 * (1 - 5 / num_classes))
        numbers.append(
            HeadlineNumber(
                format_percent(scores.top5_error), "top-5 error", f"{chance} by guessing"
            )
        )
    note = f"cross-entropy; {math.log(num_classes):.3f} by guessing"
    numbers.append(HeadlineNumber(f"{scores.loss:.3f}", "loss", note))
    return numbers


def _top1_note(scores: Scores, num_classes: int) -> str:
    """Return the standard error of the top-1 error, and the error of guessing."""
    chance = f"{format_percent(100 * (1 - 1 / num_classes))} by guessing"
    error = scores.top1_error / 100
    if not 0 < error < 1:
        return chance
    standard_error = 100 * math.sqrt(error * (1 - error) / scores.images)
    return f"± {standard_error:.1f} points standard error; {chance}"


def conditions(run: Run, analysis: RunAnalysis) -> Pairs:
    """Return the conditions under which the scores hold, as pairs of term and value."""
    predicted = analysis.predictions
    split = predicted.split
    provenance = run.model.provenance
    model_from = f"epoch {provenance['epoch']}"
    if run.validated:
        model_from += ", the best on val"
    epochs, seconds = training_length(run)
    speed = images_per_second(run)
    speed_text = "not recorded"
    if speed:
        speed_text = f"{speed:,.{0 if speed >= 10 else 1}f} images/s"
    return [
        ("Evaluated on", f"{split.name}, {format_count(len(split), 'image')}"),
        ("Crops of each image", TEST_CROPS[predicted.crops]),
        ("Epochs", f"{epochs} of {run.model.recipe.training.epochs}"),
        ("This model is from", model_from),
        ("Training time", format_time(seconds)),
        ("Training speed", speed_text),
        ("Precision", _precision(run, analysis)),
        ("Seed", str(run.description.get("seed", provenance.get("seed")))),
    ]


def _precision(run: Run, analysis: RunAnalysis) -> str:
    """Return the precision, or both where training had another."""
    trained = run.description.get("precision", analysis.precision)
    if trained == analysis.precision:
        return str(trained)
    return f"{trained} in training, {analysis.precision} here"


def training_length(run: Run) -> tuple[int, float]:
    """Return how many epochs a run has finished, and in how many seconds."""
    epochs = run.of("epoch")
    if not epochs:
        return 0, 0.0
    return epochs[-1]["epoch"], epochs[-1]["seconds"]


def images_per_second(run: Run) -> float:
    """Return the training speed over the whole run, or 0 where none is recorded."""
    steps = run.of("step")
    return steps[-1]["images_per_second"] if steps else 0.0


# ---- warnings


@dataclass
class _RepeatedWarning:
    """A warning that came in every epoch from the first to the last."""

    first_epoch: int
    last_epoch: int
    text: str

    @property
    def topic(self) -> str:
        """Return the part before the colon, which is the same in each epoch."""
        return self.text.partition(":")[0]


def warnings(run: Run) -> list[str]:
    """Return the warnings of the run and of its dataset, as sentences."""
    sentences = [f"{when}: {text}." for when, text in training_warnings(run.records)]
    sentences += [f"The dataset: {text}." for text in run.dataset.warnings]
    if run.description.get("dataset_digest") != run.dataset.digest:
        sentences.append(
            "The dataset has changed since this run began; "
            "the numbers above are those of the dataset as it is now."
        )
    return sentences


def training_warnings(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return (when, text) of a run's warnings.

    One that came back epoch after epoch is listed once, with its last text.
    """
    merged: list[_RepeatedWarning] = []
    epoch = 0
    for record in records:
        if record["kind"] == "epoch":
            epoch = record["epoch"]
        if record["kind"] == "warning":
            warning = _RepeatedWarning(epoch, epoch, record["text"])
            if merged and merged[-1].topic == warning.topic:
                warning.first_epoch = merged.pop().first_epoch
            merged.append(warning)
    return [(_epoch_range(warning), warning.text) for warning in merged]


def _epoch_range(warning: _RepeatedWarning) -> str:
    if warning.last_epoch == 0:
        return "At the start"
    if warning.first_epoch == warning.last_epoch:
        return f"After epoch {warning.last_epoch}"
    return f"After each of epochs {warning.first_epoch} to {warning.last_epoch}"


# ---- provenance and use


def provenance(run: Run) -> Pairs:
    """Return the machine, the versions and the dataset a model comes from."""
    machine = run.model.provenance.get("machine", {})
    pairs = [
        (MACHINE_LABELS.get(name, name.capitalize()), str(value)) for name, value in machine.items()
    ]
    return [
        *pairs,
        ("Device", str(run.description.get("device", "not recorded"))),
        ("Training precision", str(run.description.get("precision", "not recorded"))),
        ("Dataset", run.dataset.path.name),
        ("Dataset digest", run.dataset.digest),
    ]


def commands(run: Run, predicted: SplitPredictions) -> list[str]:
    """Return the commands that use the model, to be run in the directory of the page."""
    dataset = run.dataset.location.address
    if not is_address(dataset):
        dataset = os.path.relpath(run.dataset.path, run.folder.resolve())
    settings = f"--split {predicted.split.name} --crops {predicted.crops}"
    return [
        f"alexnet evaluate {MODEL_FILE} {shlex.quote(dataset)} {settings}",
        f"alexnet predict {MODEL_FILE} IMAGE",
    ]
