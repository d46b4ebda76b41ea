"""Log a run for TensorBoard, in RUN/tensorboard; `tensorboard --logdir runs` shows all runs.

A resumed run adds a file that tells TensorBoard to drop what the earlier ones have from its first
step on.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from alexnet.analysis.tracking.tracker import TrackedRun

FOLDER = "tensorboard"  # in the run's directory


class TensorBoardTracker:
    """The event files of a run."""

    run_id = FOLDER

    def __init__(self, run: TrackedRun) -> None:
        self.writer = SummaryWriter(str(run.folder / FOLDER), purge_step=run.first_step)
        file = self.writer.file_writer
        if file is not None and run.run_id is None:
            for summary in hparams(dict(run.hyperparameters), {}):
                file.add_summary(summary)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write values as scalars."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Write an image."""
        self.writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def close(self, is_finished: bool) -> None:
        """Close the file."""
        self.writer.close()
