"""How the paper's comparisons are made on anyone's data: every arm is trained from every seed, read, and set side by side.

Experiments share the runs they have in common, the baseline first of all, and what is finished is never done again: started anew
after a stop, the same call goes on where it was (`runs`). A run that diverged is a result, too. Models are those the loop keeps,
the best on val by one view.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alexnet import durable
from alexnet.data.store import Split, Store
from alexnet.errors import AlexNetError, must_be
from alexnet.evaluate import Seer, Tick, evaluate, predictions, scored_split, scores
from alexnet.insight.experiments.arms import ENSEMBLE, Arm, Experiment
from alexnet.insight.experiments.outcomes import Compared, Outcome, Row, Values, picture, reached_at
from alexnet.insight.experiments.portions import middles
from alexnet.insight.experiments.runs import Company, Record, Run, must_go_on, trained
from alexnet.insight.experiments.sparsity import rectified, sparsity
from alexnet.model import Model, ready, view_of
from alexnet.recipes.recipe import Recipe, with_rate
from alexnet.recipes.settings import to_json
from alexnet.runtime import Runtime, machine
from alexnet.training import tasks
from alexnet.training.tasks import Task

LEVEL = 25.0  # % of training error, that of the paper's figure 1
RATES = (0.002, 0.005, 0.01, 0.02, 0.05)  # tried for each arm where none is given
TRIAL = 5  # epochs of such a trial: after three, rates that are too high still lead
AS_LEARNT = "as learnt: the training error of the last epoch's batches, with dropout, crops and noise where an arm has them"
MIDDLES = "an epoch's training error is the mean over it and stands for its middle"
CHOSEN = "val has also chosen each run's best epoch: all arms are flattered a little, and alike"
VAL_ERROR = "val_top1_error"


@dataclass(frozen=True)
class Setting:
    """An experiment on a store: its base recipe, the seeds, what is scored by how many views, the machine, and where it goes.

    `rate` is given where the base recipe's own is not to be replaced by the best of RATES.
    """

    experiment: Experiment
    store: Store
    recipe: Recipe
    seeds: tuple[int, ...]
    split: str
    views: int
    runtime: Runtime
    out: Path
    rate: float | None = None

    @cached_property
    def scored(self) -> Split:
        """The pictures that are scored; AlexNetError where there are none."""
        return scored_split(self.store, self.split)

    def task(self, arm: Arm, seed: int) -> Task:
        """The run of an arm from a seed. A change that changes nothing leaves the base recipe, so that its run is shared."""
        changed = arm.change(self.recipe)
        recipe = self.recipe if changed == self.recipe else changed
        store = middles(self.store, recipe.network.input[1]) if arm.middles else self.store
        return Task(store, recipe, seed, self.runtime)

    def tasks(self, arm: Arm) -> list[Task]:
        """The runs of an arm, one a seed."""
        return [self.task(arm, seed) for seed in self.seeds]


def conduct(setting: Setting, company: Company) -> Outcome:
    """Make an experiment, or go on with it; writes OUT/NAME-HASH.json and .png. Stopped, UsageError, AlexNetError.

    Everything is checked before the first run begins: that each change applies, that each net can be built and has pictures.
    """
    arms = setting.experiment.arms
    for arm in arms:
        tasks.check(setting.task(arm, setting.seeds[0]))
    if setting.experiment.reads != "reached":
        scored_split(setting.store, setting.split)
    readings = {"scores": _scored, "reached": _reached, "ensemble": _ensemble, "sparsity": _sparsity}
    outcome = readings[setting.experiment.reads](setting, company)
    durable.write_bytes(setting.out / f"{outcome.called}.json", json.dumps(outcome.to_json(), indent=1).encode())
    durable.write_bytes(setting.out / f"{outcome.called}.png", picture(outcome))
    return outcome


# ---- the runs of an arm


def _runs(setting: Setting, arm: Arm, company: Company) -> list[Run]:
    return [trained(task, f"{arm.label}, seed {task.seed}", setting.out, company) for task in setting.tasks(arm)]


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.folder.name for run in runs)


def _whole_runs(setting: Setting, company: Company) -> list[Run]:
    """The first arm's runs; AlexNetError where one diverged."""
    runs = _runs(setting, setting.experiment.arms[0], company)
    for run in runs:
        if run.died:
            raise AlexNetError(f"{run.folder}: {run.died}")
    return runs


# ---- what is read from them


def _scored(setting: Setting, company: Company) -> Outcome:
    """The errors of every arm on the scored split, and its training error in the last epoch."""
    arms = setting.experiment.arms
    runs = [_runs(setting, arm, company) for arm in arms]
    measures = _errors(setting) | {"train_error": "as learnt %"}
    rows = [_score_row(setting, arm, own, list(measures), company) for arm, own in zip(arms, runs, strict=True)]
    if setting.experiment.paced and (paces := _pace(setting, runs)):
        measures["epochs_to_val"], found = paces
        rows = [replace(row, values={**row.values, "epochs_to_val": pace}) for row, pace in zip(rows, found, strict=True)]
    notes = [note for arm, own in zip(arms, runs, strict=True) for note in _deaths(arm, own)]
    return _outcome(setting, measures, rows, notes=[AS_LEARNT, *notes])


def _errors(setting: Setting) -> dict[str, str]:
    """The errors that say something of the store, with their headings: with fewer than six classes top-5 does not."""
    return {"top1_error": "top-1 error %"} | ({"top5_error": "top-5 %"} if len(setting.store.classes) > 5 else {})


def _deaths(arm: Arm, runs: Sequence[Run]) -> list[str]:
    return [f"{arm.label}, seed {run.task.seed}: {run.died}" for run in runs if run.died]


def _score_row(setting: Setting, arm: Arm, runs: Sequence[Run], names: list[str], company: Company) -> Row:
    found = [None if run.died else _scores(setting, run, f"{arm.label}, seed {run.task.seed}", company) for run in runs]
    values = {name: tuple(None if one is None else one[name] for one in found) for name in names}
    return Row(arm.label, values, arm.published, runs=_names(runs))


def _scores(setting: Setting, run: Run, title: str, company: Company) -> Record:
    """A run's errors, seen by the view of the whole squares whatever it learnt from; kept beside its model."""
    path = run.folder / f"{setting.split}-{setting.views}-views.json"
    if not path.exists():
        model = ready(run.model, setting.runtime)
        with company.looking(f"scoring {title}") as tick:
            found = evaluate([_seer(setting, model)], setting.scored, setting.views, setting.runtime, _minding(company, tick))
        durable.write_bytes(path, json.dumps({"pictures": found.pictures, **dict(found)}).encode())
    return {**json.loads(path.read_bytes()), "train_error": run.epochs[-1]["train_error"]}


def _seer(setting: Setting, model: Model) -> Seer:
    return model.network, view_of(setting.store, model.recipe)


def _minding(company: Company, tick: Tick) -> Tick:
    """The same tick, but Stopped when somebody asks for it."""

    def told(done: int, of: int) -> None:
        must_go_on(company)
        tick(done, of)

    return told


def _pace(setting: Setting, runs: Sequence[Sequence[Run]]) -> tuple[str, list[Values]] | None:
    """Heading and, by arm and seed, how many epochs it took to the lowest val error that all came to; None without val.

    Not to a training error or loss: an arm without dropout or noise is better at those by the way they are measured.
    """
    whole = [run for own in runs for run in own if not run.died]
    if not whole or not all(VAL_ERROR in run.epochs[0] for run in whole):
        return None
    level, guess = max(min(run.course(VAL_ERROR)) for run in whole), _blind_error(setting)
    paces = [tuple(None if run.died else reached_at(run.course(VAL_ERROR), level, guess) for run in own) for own in runs]
    return f"epochs to val {level:.1f} %", paces


def _blind_error(setting: Setting) -> float:
    """The training error of always saying the most frequent class, in percent: where courses stand before the first epoch."""
    labels = setting.store.splits["train"].labels
    return 100 * (1 - float(np.bincount(labels).max()) / len(labels))


def _reached(setting: Setting, company: Company) -> Outcome:
    """The epochs until the training error is down to LEVEL, for each arm at its own best rate; runs end when they are there."""
    rows, notes = [], []
    for arm in setting.experiment.arms:
        rate = setting.rate or best_rate(setting, arm, company)
        row, told = _reached_row(setting, _at_rate(arm, rate), rate, company)
        rows.append(row)
        notes += told
        if setting.rate is None and rate in (RATES[0], RATES[-1]):
            notes.append(f"{arm.label}: the best rate stands at the end of those tried, {RATES}; --lr sets another")
    return _outcome(setting, {"epochs": f"epochs to {LEVEL:g} %"}, rows, "times", LEVEL, [MIDDLES, *notes])


def _reached_row(setting: Setting, arm: Arm, rate: float, company: Company) -> tuple[Row, list[str]]:
    """An arm's epochs and courses, and what is to be said of them."""
    runs = [
        trained(task, f"{arm.label}, seed {task.seed}", setting.out, company, lambda record: record["train_error"] <= LEVEL)
        for task in setting.tasks(arm)
    ]
    courses = tuple(run.course("train_error") for run in runs)
    guess = _blind_error(setting)
    epochs = tuple(None if run.died else reached_at(run.course("train_error"), LEVEL, guess, first=0.5) for run in runs)
    late = [str(run.task.seed) for run, epoch in zip(runs, epochs, strict=True) if epoch is None and not run.died]
    slow = [f"{arm.label}: not down to {LEVEL:g} % with seed {', '.join(late)}; give it more --epochs"] if late else []
    values = {"epochs": epochs, "rate": (rate,) * len(runs)}
    return Row(arm.label, values, arm.published, courses, _names(runs)), [*_deaths(arm, runs), *slow]


def best_rate(setting: Setting, arm: Arm, company: Company) -> float:
    """The rate with the lowest training error after TRIAL epochs from the first seed; AlexNetError where all of them diverge.

    A trial is the beginning of the whole run at that rate: that of the rate chosen can go on where it was stopped.
    """
    after = min(TRIAL, setting.recipe.training.epochs)
    runs = {}
    for rate in RATES:
        task, title = setting.task(_at_rate(arm, rate), setting.seeds[0]), f"{arm.label}, trial of rate {rate:g}"
        runs[rate] = trained(task, title, setting.out, company, lambda record: record["epoch"] >= after)
    errors = {rate: run.epochs[after - 1]["train_error"] for rate, run in runs.items() if not run.died}
    if not errors:
        raise AlexNetError(f"{arm.label}: every rate of {RATES} diverged; give a lower one with --lr")
    best = min(errors, key=lambda rate: errors[rate])
    for rate in set(RATES) - {best}:
        runs[rate].drop_checkpoints()
    return best


def _at_rate(arm: Arm, rate: float) -> Arm:
    return replace(arm, label=f"{arm.label}, rate {rate:g}", change=lambda recipe: with_rate(arm.change(recipe), rate))


def _ensemble(setting: Setting, company: Company) -> Outcome:
    """The errors of one net, two, ... averaged: every choice of so many among the runs is a figure."""
    must_be(len(setting.seeds) > 1, f"--seeds {len(setting.seeds)}: an ensemble is made of two or more")
    runs = _whole_runs(setting, company)
    told = torch.stack([_probabilities(setting, run, company) for run in runs])  # (models, N, classes)
    labels = torch.from_numpy(setting.scored.labels)
    measures, rows = _errors(setting), []
    for count in range(1, len(runs) + 1):
        found = [dict(scores(told[list(chosen)].mean(0), labels)) for chosen in combinations(range(len(runs)), count)]
        values = {name: tuple(one[name] for one in found) for name in measures}
        published = setting.experiment.arms[0].published if count == ENSEMBLE else ()
        rows.append(Row(f"{count} model{'s' * (count > 1)}", values, published, runs=_names(runs)))
    return _outcome(setting, measures, rows, notes=["each figure is of one choice of so many models among all"])


def _probabilities(setting: Setting, run: Run, company: Company) -> Tensor:
    """What a run's model says of the scored split: (N, classes)."""
    model = ready(run.model, setting.runtime)
    with company.looking(f"seed {run.task.seed}") as tick:
        seers = [_seer(setting, model)]
        parts = predictions(seers, setting.scored, setting.views, setting.runtime, _minding(company, tick))
        return torch.cat([probability for probability, _ in parts])


def _sparsity(setting: Setting, company: Company) -> Outcome:
    """The shares of zeros and of dead units behind each relu of the trained nets."""
    layers = rectified(setting.recipe.network)
    runs = _whole_runs(setting, company)
    found = []
    for run in runs:
        model = ready(run.model, setting.runtime)
        with company.looking(f"seed {run.task.seed}") as tick:
            found.append(sparsity(_seer(setting, model), setting.scored, setting.runtime, _minding(company, tick)))
    values = {layer: tuple(zip(*(one[layer] for one in found), strict=True)) for layer in layers}  # zeros, dead; one a seed
    rows = [Row(layer, {"zeros": zeros, "dead": dead}, runs=_names(runs)) for layer, (zeros, dead) in values.items()]
    return _outcome(setting, {"zeros": "zeros %", "dead": "dead units %"}, rows, "not")


def _outcome(
    setting: Setting,
    measures: dict[str, str],
    rows: list[Row],
    compared: Compared = "difference",
    level: float | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """The rows with all that their figures depend on."""
    training, runtime = setting.recipe.training, setting.runtime
    conditions: Record = {
        "recipe": setting.recipe.name,
        "store": str(setting.store.path),
        "train_pictures": len(setting.store.splits["train"]),
        "epochs": training.epochs,
        "batch": training.batch,
        "seeds": list(setting.seeds),
    }
    if setting.experiment.reads != "reached":
        conditions |= {"split": setting.scored.name, "pictures": len(setting.scored), "views": setting.views}
    conditions |= {"precision": runtime.precision, "device": str(runtime.device), "machine": machine()}
    conditions |= {"store_digest": setting.store.digest, "base": to_json(setting.recipe)}
    name, asks = setting.experiment.name, setting.experiment.asks
    said = [CHOSEN, *notes] if conditions.get("split") == "val" else notes
    return Outcome(name, asks, conditions, measures, tuple(rows), compared, level, tuple(said))
