"""The scores of networks on a split: top-1 and top-5 error in percent and the mean loss, every picture counted exactly once.

A picture's probabilities are the mean of the softmax over its views (one, or the paper's ten, section 4.1) and over the models
of an ensemble, plain or weighted; the loss is that of the mean. Where several classes tie at the edge of the first five, a
picture gets the share of the places left that is its own, as in the 2012 program.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from alexnet.data.batches import in_order
from alexnet.data.store import Split, Store
from alexnet.data.views import View
from alexnet.durable import write_bytes
from alexnet.errors import AlexNetError
from alexnet.network.alexnet import AlexNet
from alexnet.ranks import gathered
from alexnet.runtime import Runtime

VIEWS_AT_ONCE = 128
DENSE = 0  # as a number of views: the whole square at once, at every place the net fits into it
PLACES = 5  # answers of a line in the challenge's file
Seer = tuple[AlexNet, View]
Tick = Callable[[int, int], None]  # (done, all)
Told = TypeVar("Told")


@dataclass(frozen=True)
class Scores:
    """Errors in percent; top-5 is None with fewer than six classes, where it says nothing."""

    pictures: int
    top1_error: float
    top5_error: float | None
    loss: float

    def __iter__(self) -> Iterator[tuple[str, float | None]]:
        yield from (("top1_error", self.top1_error), ("top5_error", self.top5_error), ("loss", self.loss))


@torch.inference_mode()
def probabilities(seer: Seer, squares: np.ndarray, views: int, runtime: Runtime) -> Tensor:
    """Class probabilities (N, classes), float32, of squares (N, S, S, C), averaged over 1, 9 or 10 views, or DENSE."""
    network, view = seer
    if views == DENSE:
        maps = network.dense(view.whole(squares, runtime.device, runtime.dtype)).float()
        return maps.softmax(1).mean((2, 3)).cpu()
    crops = view.of(squares, views)
    batch = view.tensor(crops.reshape(-1, *crops.shape[2:]), runtime.device, runtime.dtype)
    return network(batch).float().softmax(1).unflatten(0, (len(squares), -1)).mean(1).cpu()


def separately(
    seers: Sequence[Seer], split: Split, views: int, runtime: Runtime, progress: Tick
) -> Iterator[tuple[Tensor, Tensor]]:
    """(probabilities (networks, N, classes), labels (N,)) batch by batch, in stored order, of each network for itself.

    Of several ranks, each has every so many-th batch.
    """
    done = 0
    for squares, labels in in_order(split, max(1, VIEWS_AT_ONCE // (views or 10)), runtime.workers, runtime.ranks):
        yield torch.stack([probabilities(seer, squares, views, runtime) for seer in seers]), torch.from_numpy(labels)
        done += len(labels) * runtime.ranks.world
        progress(min(done, len(split)), len(split))


def predictions(
    seers: Sequence[Seer], split: Split, views: int, runtime: Runtime, progress: Tick, weights: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(probabilities (N, classes), labels (N,)) batch by batch, in stored order, averaged over the networks.

    `weights` (networks,) of sum 1 say how much each one's word counts; None: all alike.
    """
    shares = torch.full((len(seers),), 1 / len(seers)) if weights is None else weights.float()
    for each, labels in separately(seers, split, views, runtime, progress):
        yield (shares[:, None, None] * each).sum(0), labels


def evaluate(
    seers: Sequence[Seer],
    split: Split,
    views: int,
    runtime: Runtime,
    progress: Tick = lambda done, of: None,
    weights: Tensor | None = None,
) -> Scores:
    """The scores of one network, or of several as an ensemble with `weights` (None: all alike), on a split.

    Ranks only tell each other the marks of their pictures, and nobody holds all probabilities.
    """
    _must_have_pictures(split)
    marks = [_marks(*part) for part in predictions(seers, split, views, runtime, progress, weights)]
    return _scores(torch.cat(_in_stored_order(gathered(runtime.ranks, marks))), seers[0][0].classes)


def answers(
    seers: Sequence[Seer], split: Split, views: int, runtime: Runtime, progress: Tick, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(probabilities (N, classes), labels (N,)) of a whole split, on every rank; AlexNetError where it is empty."""
    _must_have_pictures(split)
    parts = _in_stored_order(gathered(runtime.ranks, list(predictions(seers, split, views, runtime, progress, weights))))
    return torch.cat([part for part, _ in parts]), torch.cat([labels for _, labels in parts])


def scores(probability: Tensor, labels: Tensor) -> Scores:
    """The scores of probabilities (N, classes) against labels (N,)."""
    return _scores(_marks(probability, labels), probability.shape[1])


def _marks(probability: Tensor, labels: Tensor) -> Tensor:
    """What each picture counts, float64 (N, 3): its share of the first place, of the first five, and its loss."""
    right = probability.gather(1, labels[:, None])
    loss = -right.double().clamp_min(1e-45).log()
    return torch.cat([_credit(probability, right, 1), _credit(probability, right, 5), loss], 1)


def _scores(marks: Tensor, classes: int) -> Scores:
    first, five, loss = marks.mean(0).tolist()
    return Scores(len(marks), 100 * (1 - first), 100 * (1 - five) if classes > 5 else None, loss)


def _in_stored_order(told: list[list[Told]]) -> list[Told]:
    """The batches of all ranks, each of which had every so many-th."""
    return [told[batch % len(told)][batch // len(told)] for batch in range(sum(map(len, told)))]


def _must_have_pictures(split: Split) -> None:
    if not len(split):
        raise AlexNetError(f"{split.store}: the split {split.name} has no pictures; choose another with --split")


def _credit(probability: Tensor, right: Tensor, places: int) -> Tensor:
    """The share of a place among the first `places` that the right class has, float64 (N, 1)."""
    larger = (~(probability <= right)).sum(1, keepdim=True)  # what is not a number counts as wrong
    equal = (probability == right).sum(1, keepdim=True).clamp_min(1)
    return ((places - larger) / equal).clamp(0, 1).double()


def scored_split(store: Store, name: str | None) -> Split:
    """The split to score: the one asked for, else test, else val."""
    filled = {found: split for found, split in store.splits.items() if len(split)}
    name = name or next((usual for usual in ("test", "val") if usual in filled), None)
    if name not in filled:
        raise AlexNetError(
            f"{store.place}: no pictures in a split {name or 'test or val'}; it has {', '.join(filled)}; see --split"
        )
    return filled[name]


def must_fit(view: View, store: Store) -> None:
    """AlexNetError unless a store's records are what a model learnt to see, under the same class names."""
    if store.classes != view.classes:
        raise AlexNetError(
            f"{store.place}: its {len(store.classes)} classes are not the model's {len(view.classes)}; use the model's own"
        )
    must_be_seen(view, store)


def must_be_seen(view: View, store: Store) -> None:
    """AlexNetError unless a store's records have the size and channels a model learnt to see, whatever their classes."""
    found, expected = (store.policy.channels, store.policy.size), (view.policy.channels, view.policy.size)
    if found != expected:
        raise AlexNetError(
            f"{store.place}: records of (channels, size) {found}; the model expects {expected}; prepare with --size and --grey"
        )


def write_submission(path: Path, probability: Tensor, names: Sequence[str]) -> None:
    """For each picture (N, classes) a line with its five likeliest classes, likeliest first, numbered from 1; AlexNetError.

    Lines stand in the order of the pictures' file names, whatever their folders, as the challenge counts its pictures. Of equals
    the class that stands first comes first. Classes count as the store lists them: where the challenge numbers them otherwise,
    as ILSVRC's devkit does, the numbers have to be translated.
    """
    told = (probability.argsort(stable=True, dim=1, descending=True)[:, :PLACES] + 1).tolist()
    order = sorted(range(len(told)), key=lambda number: (names[number].rsplit("/", 1)[-1], names[number]))
    write_bytes(path, "".join(" ".join(map(str, told[number])) + "\n" for number in order).encode())
