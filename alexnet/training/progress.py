"""Where a run stands, as an immutable value, and how each batch moves it on.

The sums over the epoch under way are part of it, so a resumed run reports the same epoch means as
one that never stopped. The loss over the second half of an epoch is kept apart: it tells whether
the network has started to learn.
"""

from dataclasses import dataclass, replace

from alexnet.data.loader import LoaderState
from alexnet.recipes.schedules import PlateauState


@dataclass(frozen=True)
class BestErrors:
    """Errors of the best model so far on the validation split, in percent, and its epoch."""

    epoch: int
    top1_error: float
    top5_error: float | None


@dataclass(frozen=True)
class Progress:
    """The state of a run between two batches; times in seconds, errors in percent."""

    loader_state: LoaderState = LoaderState()  # of the next batch
    steps: int = 0
    images: int = 0  # trained on, over all epochs
    plateau: PlateauState = PlateauState()
    best: BestErrors | None = None
    seconds: float = 0.0  # of training, without validation
    loss_sum: float = 0.0  # over the images of the epoch under way
    incorrect: int = 0  # of these images, as classified during training
    second_half_loss_sum: float = 0.0  # over the images of the epoch's second half
    second_half_images: int = 0
    metrics_bytes: int = 0  # length of metrics.jsonl

    @property
    def second_half_loss(self) -> float:
        """Mean training loss over the second half of the epoch that has just ended."""
        return self.second_half_loss_sum / self.second_half_images

    def train_means(self, images: int) -> dict[str, float]:
        """Return loss and top-1 error (percent) over the epoch that has ended, of `images`."""
        return {
            "train_loss": self.loss_sum / images,
            "train_error": 100 * self.incorrect / images,
        }


def advance(
    progress: Progress,
    state: LoaderState,
    steps_per_epoch: int,
    images: int,
    loss: float,
    incorrect: int,
) -> Progress:
    """Return the progress after the batch at `state`: its size, mean loss and errors.

    The sums start at zero with each epoch.
    """
    if state.batch == 0:
        progress = _with_zero_sums(progress)
    if state.batch + 1 == steps_per_epoch:
        following = LoaderState(state.epoch + 1)
    else:
        following = LoaderState(state.epoch, state.batch + 1)
    progress = replace(
        progress,
        loader_state=following,
        steps=progress.steps + 1,
        images=progress.images + images,
        loss_sum=progress.loss_sum + loss * images,
        incorrect=progress.incorrect + incorrect,
    )
    if 2 * (state.batch + 1) <= steps_per_epoch:
        return progress
    return replace(
        progress,
        second_half_loss_sum=progress.second_half_loss_sum + loss * images,
        second_half_images=progress.second_half_images + images,
    )


def _with_zero_sums(progress: Progress) -> Progress:
    return replace(
        progress, loss_sum=0.0, incorrect=0, second_half_loss_sum=0.0, second_half_images=0
    )
