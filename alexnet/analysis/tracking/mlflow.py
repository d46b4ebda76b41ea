"""Log a run to MLflow; its own variables say where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.

MLflow keeps every value it gets, so what a resumed run logs again is left out here.
"""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

import mlflow
from PIL import Image

from alexnet.analysis.tracking.tracker import TrackedRun

PARAMS_AT_ONCE = 100  # MLflow's limit


class MlflowTracker:
    """A run of MLflow; inside a run that the caller has started, it is a child of that."""

    def __init__(self, run: TrackedRun) -> None:
        started = mlflow.start_run(run.run_id, run_name=run.folder.name, nested=True)
        self.run_id = started.info.run_id
        self.last_steps = _last_steps(self.run_id, started.data.metrics)
        params = list(run.hyperparameters.items()) if run.run_id is None else []
        for first in range(0, len(params), PARAMS_AT_ONCE):
            mlflow.log_params(dict(params[first : first + PARAMS_AT_ONCE]))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values whose step is new."""
        new = {name: it for name, it in values.items() if step > self.last_steps.get(name, -1)}
        if new:
            mlflow.log_metrics(new, step=step, run_id=self.run_id)

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image as the artifact NAME/STEP.png."""
        mlflow.log_image(image, f"{name}/{step:08d}.png")

    def close(self, is_finished: bool) -> None:
        """Mark the run as finished or killed; where it is to be seen goes to standard error."""
        with redirect_stdout(sys.stderr):
            mlflow.end_run("FINISHED" if is_finished else "KILLED")


def _last_steps(run_id: str, names: Mapping[str, float]) -> dict[str, int]:
    """Return the last step that a run has of each metric."""
    client = mlflow.MlflowClient()
    return {
        name: max(metric.step for metric in client.get_metric_history(run_id, name))
        for name in names
    }
