"""Several ranks against one process: the same weights by every strategy, and every byte counted.

Also that a run which fails ends soon on all ranks and says why. The ranks are processes with one
thread each, started by torchrun; `tests.helpers.distributed_worker` is what they run.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.core.device import ParallelMode, with_parallelism
from alexnet.core.errors import UsageError
from alexnet.data.loader import LoaderState, TrainLoader, iterate_split
from alexnet.data.prepared import PreparedDataset
from alexnet.distributed.comm_cost import comm_costs
from alexnet.distributed.partition import partition, shard_slice
from alexnet.distributed.process_group import Ranks, agree_on_attempt
from alexnet.distributed.strategies import DataParallel
from alexnet.models.model_file import make_preprocessor
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.presets import get_recipe
from alexnet.training import checkpoint, trainer
from tests.conftest import tiny
from tests.helpers.distributed_worker import EPOCHS, Job

JOBS = [
    Job("original", "data"),
    Job("original", "towers"),
    Job("original", "hybrid"),
    Job("original", "pipeline"),
    Job("paper", "towers"),
    Job("caffe", "towers"),
    Job("separate", "towers"),
    Job("owt", "hybrid"),
    Job("modern", "data", "fp32"),
    Job("modern", "towers", "fp32"),
    Job("modern", "hybrid", "fp32"),
    Job("modern", "pipeline", "fp32"),
]
# The crops of `modern` grow during the run, and the communication with them.
CONSTANT_SIZE_JOBS = [job for job in JOBS if job.recipe != "modern"]


def job_id(job: Job) -> str:
    return f"{job.recipe}-{job.parallel}-{job.precision}"


def torchrun(
    num_ranks: int, dataset: PreparedDataset, out: Path, *jobs: Job, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the jobs with `num_ranks` processes of one thread each."""
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--nproc-per-node", str(num_ranks), "--max-restarts", str(restarts)]
    command += ["-m", "tests.helpers.distributed_worker", str(dataset.path), str(out)]
    command += [job.to_json() for job in jobs]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def out(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all JOBS on two ranks, with one start for all; return the folder of their runs."""
    folder = tmp_path_factory.mktemp("two-ranks")
    process = torchrun(2, dataset, folder, *JOBS)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


def train_in_one_process(
    job: Job, dataset: PreparedDataset, folder: Path, devices: int = 1
) -> checkpoint.Checkpoint:
    """Train the same run in one process, on one or several devices; return its last checkpoint."""
    mode = job.parallel if devices > 1 else "none"
    same = Job(job.recipe, mode, job.precision, job.batch_size)
    config = same.config(dataset.path, devices=devices)
    trainer.train(config, folder, lambda record: None)
    return checkpoint.load_latest(folder / "checkpoints", config.digest())


def max_difference(expected: checkpoint.Checkpoint, actual: checkpoint.Checkpoint) -> float:
    """Return the largest relative difference of a weight tensor, in norms."""
    pairs = [(expected.weights[name], actual.weights[name]) for name in expected.weights]
    return max(float((a - b).norm() / a.norm()) for a, b in pairs)


@pytest.mark.parametrize("job", JOBS, ids=job_id)
def test_every_strategy_trains_the_same_weights(
    job: Job, dataset: PreparedDataset, out: Path, tmp_path: Path
) -> None:
    expected = train_in_one_process(job, dataset, tmp_path)
    digest = job.config(dataset.path, Ranks(0, 2)).digest()
    actual = checkpoint.load_latest(job.folder(out) / "checkpoints", digest)
    assert actual.progress.steps == expected.progress.steps >= 20
    assert actual.progress.best == expected.progress.best
    assert max_difference(expected, actual) < (1e-12 if job.precision == "fp64" else 1e-6)
    for name, weight in actual.weights.items():
        assert weight.dtype == expected.weights[name].dtype, name


@pytest.mark.parametrize("job", CONSTANT_SIZE_JOBS, ids=job_id)
def test_bytes_sent_are_those_the_partition_implies(
    job: Job, dataset: PreparedDataset, out: Path
) -> None:
    config = job.config(dataset.path, Ranks(0, 2))
    shapes = infer_shapes(config.recipe.network, len(dataset.classes))
    parts = partition(shapes, job.parallel, 2, config.recipe.network.towers)
    itemsize = config.runtime.dtype.itemsize
    images = len(config.train)
    expected = Counter[str]()
    for first in range(0, images, job.batch_size):
        batch_size = min(job.batch_size, images - first)
        for cost in comm_costs(shapes, parts, batch_size, itemsize):
            expected[cost.into] += EPOCHS * (cost.forward + cost.backward)
    summary = json.loads((job.folder(out) / "summary.json").read_text())
    assert summary["sent_bytes"] == expected


def test_towers_of_original_exchange_what_figure_2_shows() -> None:
    shapes = infer_shapes(get_recipe("original").network, 1000)
    costs = comm_costs(shapes, partition(shapes, "towers", 2, 2), 128, 4)
    values = {  # both towers' outputs; into fc8, which the first tower has, only the other's
        "conv3": 256 * 13 * 13,
        "fc6": 256 * 6 * 6,
        "fc7": 4096,
        "fc8": 2048,
    }
    expected = {name: (4 * 128 * count, 4 * 128 * count) for name, count in values.items()}
    assert {cost.into: (cost.forward, cost.backward) for cost in costs} == expected


@pytest.mark.parametrize("recipe", ["original", "paper"])
def test_two_devices_of_one_process_train_the_same_weights(
    recipe: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    job = Job(recipe, "towers")
    actual = train_in_one_process(job, dataset, tmp_path / "two-devices", devices=2)
    expected = train_in_one_process(job, dataset, tmp_path / "one-device")
    assert max_difference(expected, actual) < 1e-12


def test_run_saved_by_two_ranks_resumes_with_one_or_four(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    expected = train_in_one_process(Job("modern", "none"), dataset, tmp_path / "uninterrupted")
    stopped = [Job("modern", "hybrid", max_steps=9, run=name) for name in ("one", "four")]
    assert torchrun(2, dataset, tmp_path, *stopped).returncode == 0
    config = Job("modern", "none").config(dataset.path)
    trainer.train(config, tmp_path / "one", lambda record: None)
    process = torchrun(4, dataset, tmp_path, Job("modern", "data", run="four"))
    assert process.returncode == 0, process.stderr
    for name in ("one", "four"):
        actual = checkpoint.load_latest(tmp_path / name / "checkpoints", config.digest())
        assert max_difference(expected, actual) < 1e-12


def data_parallel_rows(rank: int, world_size: int) -> DataParallel:
    """Return a strategy of which only `rows` works: it needs no process group."""
    strategy = DataParallel.__new__(DataParallel)
    strategy.ranks = Ranks(rank, world_size)
    return strategy


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_ranks_load_the_same_images_in_the_same_order(
    world_size: int, dataset: PreparedDataset
) -> None:
    recipe = tiny(get_recipe("original"), epochs=3, batch_size=10)
    preprocessor = make_preprocessor(dataset, recipe)
    split = dataset.splits["train"]
    single = TrainLoader(split, preprocessor, recipe.training, 0, 1)
    strategies = [data_parallel_rows(rank, world_size) for rank in range(world_size)]
    loaders = [
        TrainLoader(split, preprocessor, recipe.training, 0, 1, strategy.rows)
        for strategy in strategies
    ]
    for epoch in range(3):
        for step in range(single.steps_per_epoch):
            state = LoaderState(epoch, step)
            batch = single.batch(state, single.order(epoch))
            parts = [loader.batch(state, loader.order(epoch)) for loader in loaders]
            shards = [shard_slice(len(batch.indices), r, world_size) for r in range(world_size)]
            crops = [
                part.crops[: shard.stop - shard.start]
                for part, shard in zip(parts, shards, strict=True)
            ]
            assert torch.equal(torch.cat(crops), batch.crops)
            for part in parts:
                assert np.array_equal(part.indices, batch.indices)
                assert np.array_equal(part.params.dropout, batch.params.dropout)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_every_image_is_evaluated_once(world_size: int, dataset: PreparedDataset) -> None:
    split = dataset.splits["train"]
    all_ranks = [Ranks(rank, world_size) for rank in range(world_size)]
    for batch_size in (1, 4, 50):
        labels = [
            labels
            for ranks in all_ranks
            for _, labels in iterate_split(split, batch_size, 1, ranks)
        ]
        assert np.array_equal(np.sort(np.concatenate(labels)), np.sort(split.labels))
    batches = [[images for images, _ in iterate_split(split, 4, 1, ranks)] for ranks in all_ranks]
    for number, (images, _) in enumerate(iterate_split(split, 4, 1)):
        assert np.array_equal(batches[number % world_size][number // world_size], images)


def test_attempts_in_one_store_have_different_names(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 3)
    names: list[str] = []
    for _ in range(3):  # attempts, of which each finds what the one before has left
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(agree_on_attempt, store, rank, 3) for rank in (1, 0, 2)]
            agreed = {future.result(timeout=20) for future in futures}
        assert len(agreed) == 1
        names += agreed
    assert len(set(names)) == 3


def test_killed_rank_is_named_within_a_minute(dataset: PreparedDataset, tmp_path: Path) -> None:
    start = time.monotonic()
    process = torchrun(3, dataset, tmp_path, Job("modern", "data", fault="kill"))
    assert process.returncode != 0
    assert time.monotonic() - start < 60
    assert "of 3 stops: rank 1 has been killed, or does not answer" in process.stdout


def test_restarted_ranks_end_with_the_same_bits(dataset: PreparedDataset, tmp_path: Path) -> None:
    undisturbed = Job("modern", "data", run="undisturbed")
    killed = Job("modern", "data", run="killed", fault="kill once")
    assert torchrun(2, dataset, tmp_path, undisturbed).returncode == 0
    process = torchrun(2, dataset, tmp_path, killed, restarts=2)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "rank 1 has been killed" in process.stdout
    digest = undisturbed.config(dataset.path).digest()
    expected = checkpoint.load_latest(undisturbed.folder(tmp_path) / "checkpoints", digest)
    actual = checkpoint.load_latest(killed.folder(tmp_path) / "checkpoints", digest)
    for name, weight in expected.weights.items():
        assert torch.equal(weight, actual.weights[name]), name
    for name, velocity in expected.velocities.items():
        assert torch.equal(velocity, actual.velocities[name]), name


def test_full_disk_on_rank_0_stops_all_ranks(dataset: PreparedDataset, tmp_path: Path) -> None:
    process = torchrun(2, dataset, tmp_path, Job("modern", "towers", fault="disk"))
    assert process.returncode != 0
    message = "rank 1 of 2 stops: rank 0: OSError: [Errno 28] No space left on device"
    assert message in process.stdout


def test_ranks_with_different_settings_do_not_start(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    job = Job("modern", "data", fault="seed")
    process = torchrun(2, dataset, tmp_path, job)
    assert process.returncode != 0
    assert not (tmp_path / "modern-data-fp64" / "metrics.jsonl").exists()
    assert "rank 1 and rank 0 do not agree in: seed (1, 0)" in process.stdout


@pytest.mark.parametrize(
    ("recipe", "mode", "num_shards", "message"),
    [
        ("single", "towers", 2, "has 1 tower, and 2 devices"),
        ("original", "towers", 4, "has 2 towers, and 4 devices"),
        ("original", "hybrid", 3, "fc6: 4096 units .* cannot be shared by 3 ranks"),
        ("separate", "hybrid", 2, "fc6: 8192 units in 2 groups"),
        ("original", "pipeline", 3, "expected 2"),
    ],
)
def test_impossible_partition_is_an_error(
    recipe: str, mode: ParallelMode, num_shards: int, message: str
) -> None:
    network = get_recipe(recipe).network
    with pytest.raises(UsageError, match=message):
        partition(infer_shapes(network, 1000), mode, num_shards, network.towers)


def test_several_processes_need_a_parallel_mode(dataset: PreparedDataset) -> None:
    runtime = Job("modern", "none").config(dataset.path).runtime
    with pytest.raises(UsageError, match='2 processes, but --parallel is "none"'):
        with_parallelism(runtime, "none", Ranks(0, 2))
    with pytest.raises(UsageError, match="one process with one device"):
        with_parallelism(runtime, "towers", Ranks())
    assert with_parallelism(runtime, "data", Ranks()).parallel == "none"
