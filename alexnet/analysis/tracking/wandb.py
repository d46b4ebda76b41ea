"""Log a run to Weights & Biases; its own variables say where: WANDB_MODE, WANDB_PROJECT and others.

Files are kept in RUN/wandb. Weights & Biases takes no step twice: what a resumed run logs again
is dropped there.
"""

from collections.abc import Mapping

import wandb
from PIL import Image

from alexnet.analysis.tracking.tracker import TrackedRun


class WandbTracker:
    """A run of Weights & Biases."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = wandb.init(
            dir=run.folder,
            id=run.run_id,
            name=run.folder.name,
            config=dict(run.hyperparameters),
            resume="allow",
        )

    @property
    def run_id(self) -> str:
        """The id of the run in its project."""
        return str(self.run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values."""
        self.run.log(dict(values), step=step)

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image."""
        self.run.log({name: wandb.Image(image)}, step=step)

    def close(self, is_finished: bool) -> None:
        """Send what is left, and mark the run as finished or failed."""
        self.run.finish(exit_code=0 if is_finished else 1)
