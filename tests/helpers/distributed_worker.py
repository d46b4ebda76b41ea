"""Run jobs of a tiny recipe as one rank of several; the tests start it with torchrun.

Usage: python -m tests.helpers.distributed_worker DATASET OUT JOB...

Each JOB is a `Job` as JSON text. Its run goes into a folder in OUT; rank 0 adds `summary.json`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch

from alexnet.core.device import PRECISIONS, ParallelMode, Runtime, with_parallelism
from alexnet.core.errors import AlexNetError
from alexnet.core.signals import stop_requests
from alexnet.data.prepared import open_dataset
from alexnet.distributed import process_group
from alexnet.recipes.presets import get_recipe
from alexnet.training import checkpoint, trainer
from alexnet.training.run_config import RunConfig
from tests.conftest import tiny

EPOCHS = 3
FAULT_STEP = 3  # the steps done before a rank is killed
KILL_SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows every signal kills at once


@dataclass(frozen=True)
class Job:
    """A run of three epochs, stopped after `max_steps` batches.

    `fault`: what goes wrong: "kill" and "kill once" kill rank 1 at its fourth batch, each time or
    the first time; "disk" fails to save; "seed" gives each rank another random seed.
    `run`: the name of the run's folder, where two jobs share one.
    """

    recipe: str
    parallel: ParallelMode
    precision: str = "fp64"
    batch_size: int = 9  # which leaves a smaller last batch
    max_steps: int = 10**6
    fault: str = ""
    run: str = ""

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def config(
        self,
        dataset: Path,
        ranks: process_group.Ranks = process_group.SINGLE_PROCESS,
        devices: int = 1,
    ) -> RunConfig:
        """Return the run's configuration on these ranks, or on several devices of one process."""
        cpu = torch.device("cpu")
        dtype = PRECISIONS[self.precision]
        runtime = Runtime(cpu, dtype, workers=1, extra_devices=(cpu,) * (devices - 1))
        return RunConfig(
            open_dataset(dataset),
            tiny(get_recipe(self.recipe), EPOCHS, self.batch_size),
            ranks.rank if self.fault == "seed" else 5,
            with_parallelism(runtime, self.parallel, ranks),
        )

    def folder(self, out: Path) -> Path:
        """Return the folder of the run."""
        return out / (self.run or f"{self.recipe}-{self.parallel}-{self.precision}")

    def kills(self, rank: int) -> bool:
        """Return whether this attempt's rank is to be killed."""
        first_attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        fault = self.fault == "kill" or (self.fault == "kill once" and first_attempt)
        return rank == 1 and fault

    def stop(self, rank: int) -> Callable[[], int]:
        """Return the trainer's `stop`, called once a step; it kills this rank if the job says."""
        steps = count()

        def stop() -> int:
            done = next(steps)
            if done == FAULT_STEP and self.kills(rank):
                os.kill(os.getpid(), KILL_SIGNAL)
            return signal.SIGTERM if done + 1 >= self.max_steps else 0

        return stop


def fail_to_save(*_: object) -> None:
    """Replace `checkpoint.save` on a full disk."""
    raise OSError(28, "No space left on device", "RUN/checkpoints")


def run_job(job: Job, dataset: Path, folder: Path, ranks: process_group.Ranks) -> None:
    """Train as the job says, and write the summary on rank 0 unless the run was stopped."""
    if job.fault == "disk":
        checkpoint.save = fail_to_save  # type: ignore[assignment]
    save_every = 0.0 if job.fault in ("disk", "kill once") else 1e9  # seconds
    config = job.config(dataset, ranks)
    stop = job.stop(ranks.rank)
    try:
        summary = trainer.train(config, folder, lambda record: None, stop, save_every)
    except trainer.RunStopped:
        return
    if ranks.is_main:
        (folder / "summary.json").write_text(json.dumps(summary))


def main(dataset: Path, out: Path, jobs: list[Job]) -> None:
    """Run all jobs, one after the other."""
    # stop_requests: so that torchrun's SIGTERM does not cut off the last messages
    with process_group.init_distributed() as ranks, stop_requests(ranks):
        for job in jobs:
            run_job(job, dataset, job.folder(out), ranks)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), [Job.from_json(text) for text in sys.argv[3:]])
    except AlexNetError as error:
        print(f"rank {os.environ['RANK']}: {error}", flush=True)
        sys.exit(error.status)
