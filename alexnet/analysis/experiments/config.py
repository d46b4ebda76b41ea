"""The configuration of an experiment on somebody's dataset, and the result that belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from alexnet.analysis.experiments.ablations import Ablation, Experiment
from alexnet.analysis.experiments.results import EffectKind, ExperimentResult, Row
from alexnet.analysis.experiments.subsets import center_squares
from alexnet.analysis.experiments.training_runs import Record
from alexnet.core.device import Runtime
from alexnet.core.system_info import machine_info
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.evaluation.evaluate import scored_split
from alexnet.models.model_file import Classifier, make_preprocessor
from alexnet.recipes.overrides import to_json
from alexnet.recipes.recipe import Recipe
from alexnet.training.run_config import RunConfig

VAL_NOTE = (
    "val has also chosen each run's best epoch, which favors all ablations slightly and alike"
)


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment on a dataset."""

    experiment: Experiment
    dataset: PreparedDataset
    recipe: Recipe  # that the ablations change
    seeds: tuple[int, ...]
    split: str  # on which models are scored
    crops: int  # of each image, averaged
    runtime: Runtime
    out: Path  # of runs and results
    lr: float | None = None  # None: the learning speed is that of each ablation's best of several

    @cached_property
    def scored_split(self) -> Split:
        """The images that are scored; AlexNetError where there are none."""
        return scored_split(self.dataset, self.split)

    def run_config(self, ablation: Ablation, seed: int) -> RunConfig:
        """Return the run of an ablation with a seed.

        A change without effect leaves the base recipe, so that its run is shared.
        """
        changed = ablation.change(self.recipe)
        recipe = self.recipe if changed == self.recipe else changed
        dataset = self.dataset
        if ablation.center_only:
            dataset = center_squares(dataset, recipe.network.input[1])
        return RunConfig(dataset, recipe, seed, self.runtime)

    def run_configs(self, ablation: Ablation) -> list[RunConfig]:
        """Return the runs of an ablation, one for each seed."""
        return [self.run_config(ablation, seed) for seed in self.seeds]

    def with_dataset_preprocessing(self, classifier: Classifier) -> Classifier:
        """Return the classifier for the dataset's whole images, whatever it was trained on."""
        preprocessor = make_preprocessor(self.dataset, classifier.recipe)
        return replace(classifier, preprocessor=preprocessor)

    def conditions(self) -> Record:
        """Return everything that the results depend on, as plain data."""
        conditions: Record = {
            "recipe": self.recipe.name,
            "dataset": str(self.dataset.path),
            "train_images": len(self.dataset.splits["train"]),
            "epochs": self.recipe.training.epochs,
            "batch_size": self.recipe.training.batch_size,
            "seeds": list(self.seeds),
        }
        if self.experiment.measure != "epochs":
            conditions["split"] = self.scored_split.name
            conditions["images"] = len(self.scored_split)
            conditions["crops"] = self.crops
        conditions["precision"] = self.runtime.precision
        conditions["device"] = str(self.runtime.device)
        conditions["machine"] = machine_info()
        conditions["dataset_digest"] = self.dataset.digest
        conditions["base_recipe"] = to_json(self.recipe)
        return conditions


def make_result(
    config: ExperimentConfig,
    metrics: dict[str, str],
    rows: Sequence[Row],
    effect_kind: EffectKind = "difference",
    target_error: float | None = None,
    notes: Sequence[str] = (),
) -> ExperimentResult:
    """Return the rows with the conditions they were measured under."""
    conditions = config.conditions()
    if conditions.get("split") == "val":
        notes = [VAL_NOTE, *notes]
    return ExperimentResult(
        config.experiment.name,
        config.experiment.question,
        conditions,
        metrics,
        tuple(rows),
        effect_kind,
        target_error,
        tuple(notes),
    )
