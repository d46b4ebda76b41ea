"""The benchmark suites: what is timed (training, inference, data loading, norm), against what.

Every baseline runs twice: with the allocator's defaults, which is what people get, and with the
settings that our commands use, so that their share of the speed can be seen. On a GPU the host's
allocator hardly matters, so there it runs once.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from alexnet.benchmark import inputs, onnx_baselines, roofline, torch_baselines, workloads
from alexnet.benchmark.interleaved_timer import ProcessSpec, time_interleaved
from alexnet.benchmark.machine_limits import best_rates, limit_cases, machine_limits
from alexnet.benchmark.report import BenchmarkCase, BenchmarkReport, Unit, make_rows
from alexnet.core.console import ProgressFn
from alexnet.core.device import Runtime
from alexnet.core.system_info import machine_info
from alexnet.models.kernels.norm import describe_form
from alexnet.recipes.layers import LocalResponseNorm
from alexnet.recipes.presets import OWT
from alexnet.recipes.recipe import Recipe

SuiteName = Literal["train", "infer", "feed", "norm"]
DEFAULT_BATCH_SIZES: dict[SuiteName, int] = {"train": 128, "infer": 64, "feed": 128, "norm": 128}
MIN_IMAGES = 1000  # in a dataset
NORM = LocalResponseNorm("norm")  # the paper's: n=5, k=2, alpha=1e-4, beta=0.75
NORM_SHAPES = {"norm1": (96, 55, 55), "norm2": (256, 27, 27)}  # in the paper's network
DEFAULTS = ProcessSpec("defaults")
IMAGE_FOLDER = "class folder"
IMAGES_PER_SECOND: Unit = "images/s"
MALLOC_LEGEND = (
    "our malloc: in a process with the allocator settings of our commands; otherwise the defaults"
)
LEGEND: dict[SuiteName, tuple[str, ...]] = {
    "train": (
        "ours: a training step on a fixed batch: forward, loss, backward, update",
        "ours, training run: the trainer itself, with data loading, augmentation and logging",
        "torch: the same network from torch.nn's modules, eager, float32, NCHW, torch.optim.SGD; "
        "bf16: with autocast, on a GPU",
        "torchvision: its network, without a norm, float32, NCHW; bf16: with autocast, "
        "channels last",
    ),
    "infer": (
        "the number before a name is the batch size; ours: logits as evaluate and predict "
        "compute them",
        "torch: the same network from torch.nn's modules, eager, float32, NCHW",
        "ONNX Runtime, OpenVINO: the same network as an ONNX graph with the operator LRN, float32; "
        "OpenVINO may choose bf16",
    ),
    "feed": (
        "ours: random crops and mirrors, uint8, from a dataset of 256 x 256 images, JPEG or raw",
        "class folder: the files decoded by Pillow, random resized crop, mirror, float tensor",
        "on one core; synthetic files are 256 to 380 pixels a side; larger ones (--images) slow "
        "only the class folder",
    ),
    "norm": (
        "ours: the implementation that is used here; plain: in torch's own operations",
        "torch: F.local_response_norm, NCHW; bf16 converted to float32 and back, as autocast does",
        "all with n=5, k=2, alpha=1e-4, beta=0.75, forward and backward",
    ),
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is timed, and how."""

    suite: SuiteName
    recipe: Recipe
    batch_size: int
    repeats: int
    threads: int  # of torch
    runtime: Runtime
    malloc_tunables: str  # GLIBC_TUNABLES of our process
    images: str | None = None  # a source of JPEG files for train and feed; None: synthetic ones

    @property
    def our_process(self) -> ProcessSpec:
        """The process of our implementation."""
        return ProcessSpec("ours", self.malloc_tunables, configure=True)

    @property
    def itemsize(self) -> int:
        """Bytes of a value in the precision used."""
        return self.runtime.dtype.itemsize

    @property
    def time_unit(self) -> Unit:
        """The unit of short times on the device."""
        return "ms" if self.runtime.device.type == "cpu" else "µs"

    def title(self) -> str:
        """Return the configuration in a line."""
        what = self.suite if self.suite == "norm" else f"{self.suite}, {self.recipe.name}"
        device = f"{self.runtime.device} {self.runtime.precision}, threads {self.threads}"
        return f"{what}, batch size {self.batch_size}, {device}, repeats {self.repeats}"

    def to_json(self) -> dict[str, Any]:
        """Return the configuration and the machine as plain data."""
        return {
            "suite": self.suite,
            "recipe": self.recipe.name,
            "images": self.images or "synthetic",
            "batch_size": self.batch_size,
            "repeats": self.repeats,
            "threads": self.threads,
            "device": str(self.runtime.device),
            "precision": self.runtime.precision,
            "kernels": describe_form(self.runtime.device),
            "machine": machine_info(),
        }


def run_suite(config: BenchmarkConfig, progress: ProgressFn) -> BenchmarkReport:
    """Time a suite, `feed` on one core of the host; `progress` receives (done, total) turns."""
    if config.suite == "feed":
        host = replace(config.runtime, device=torch.device("cpu"), dtype=torch.float32)
        config = replace(config, threads=1, runtime=host)
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        cases = make_cases(config, Path(folder))
        limits_first = [*limit_cases(config.our_process, config.runtime), *cases]
        timings, unavailable = time_interleaved(
            limits_first, config.repeats, config.threads, progress
        )
    throughputs = best_rates(timings, config.runtime)
    limits = machine_limits(throughputs)
    kernels = f"our kernels: {describe_form(config.runtime.device)}"
    return BenchmarkReport(
        config.title(),
        (*LEGEND[config.suite], MALLOC_LEGEND, kernels),
        config.to_json(),
        throughputs,
        limits,
        tuple(dict.fromkeys(case.cost for case in cases if case.name in timings)),
        tuple(make_rows(cases, timings, limits)),
        unavailable,
    )


def make_cases(config: BenchmarkConfig, folder: Path) -> list[BenchmarkCase]:
    """Return the cases of a suite; their data is written into the folder."""
    match config.suite:
        case "train":
            return train_cases(config, folder)
        case "infer":
            batch_sizes = dict.fromkeys((config.batch_size, 1))
            return [case for size in batch_sizes for case in infer_cases(config, size)]
        case "feed":
            return feed_cases(config, folder)
        case "norm":
            return [
                case
                for name, shape in NORM_SHAPES.items()
                for case in norm_cases(config, name, (config.batch_size, *shape))
            ]


def train_cases(config: BenchmarkConfig, folder: Path) -> list[BenchmarkCase]:
    """Compare our step with torch's of the same network and of torchvision's, and our trainer."""
    recipe = config.recipe
    batch_size = config.batch_size
    runtime = config.runtime
    steps = workloads.UNTIMED_STEPS + workloads.TIMED_STEPS
    count = max(MIN_IMAGES, steps * batch_size)
    images = inputs.make_class_folder(folder, count, runtime.workers, config.images)
    dataset = inputs.prepare_dataset(
        images, folder / "dataset", recipe.network.input, "jpeg", runtime.workers
    )
    cost = roofline.training_cost(
        recipe.name, recipe.network, inputs.CLASSES, batch_size, config.itemsize
    )
    our_step = partial(workloads.training_step, recipe, batch_size, runtime)
    our_run = partial(workloads.training_run, recipe, dataset, batch_size, runtime)
    process = config.our_process
    unit = IMAGES_PER_SECOND
    return [
        BenchmarkCase("ours", process, our_step, "torch", cost, unit),
        BenchmarkCase("ours, training run", process, our_run, "ours", cost, unit),
        *_train_baselines(config, cost),
    ]


def _train_baselines(config: BenchmarkConfig, cost: roofline.WorkloadCost) -> list[BenchmarkCase]:
    network = config.recipe.network
    owt_cost = roofline.training_cost(
        "torchvision's network", OWT.network, inputs.CLASSES, config.batch_size, config.itemsize
    )
    build = partial(
        torch_baselines.training_step,
        batch_size=config.batch_size,
        device=config.runtime.device,
    )
    same_fp32 = partial(build, network, autocast=False)
    same_bf16 = partial(build, network, autocast=True)
    owt_fp32 = partial(build, OWT.network, autocast=False)
    owt_bf16 = partial(build, OWT.network, autocast=True)
    unit = IMAGES_PER_SECOND
    baselines = [
        BenchmarkCase("torch", DEFAULTS, same_fp32, None, cost, unit),
        BenchmarkCase("torchvision", DEFAULTS, owt_fp32, "torch", owt_cost, unit),
        BenchmarkCase("torchvision bf16", DEFAULTS, owt_bf16, "torch", owt_cost, unit),
    ]
    if config.runtime.device.type == "cuda":  # a CPU would take minutes
        baselines.append(BenchmarkCase("torch bf16", DEFAULTS, same_bf16, "torch", cost, unit))
    return _with_our_malloc(config, baselines)


def infer_cases(config: BenchmarkConfig, batch_size: int) -> list[BenchmarkCase]:
    """Compare the logits of a batch by our model, torch's and the engines for ONNX graphs."""
    recipe = config.recipe
    network = recipe.network
    device = config.runtime.device
    cost = roofline.inference_cost(
        recipe.name, network, inputs.CLASSES, batch_size, config.itemsize
    )
    unit = IMAGES_PER_SECOND if batch_size > 1 else config.time_unit
    torch_name = f"{batch_size}: torch"
    ours = partial(workloads.inference, recipe, batch_size, config.runtime)
    torch_eager = partial(torch_baselines.inference, network, batch_size, device)
    by_engine = partial(onnx_baselines.inference, network, batch_size, device)
    ort = partial(by_engine, onnx_baselines.onnx_runtime)
    openvino = partial(by_engine, onnx_baselines.openvino)
    baselines = [
        BenchmarkCase(torch_name, DEFAULTS, torch_eager, None, cost, unit),
        BenchmarkCase(f"{batch_size}: ONNX Runtime", DEFAULTS, ort, torch_name, cost, unit),
        BenchmarkCase(f"{batch_size}: OpenVINO", DEFAULTS, openvino, torch_name, cost, unit),
    ]
    return [
        BenchmarkCase(f"{batch_size}: ours", config.our_process, ours, torch_name, cost, unit),
        *_with_our_malloc(config, baselines),
    ]


def feed_cases(config: BenchmarkConfig, folder: Path) -> list[BenchmarkCase]:
    """Compare batches of crops from our datasets with those that a class folder's loader makes."""
    recipe = config.recipe
    batch_size = config.batch_size
    workers = config.runtime.workers
    shape = recipe.network.input
    count = max(MIN_IMAGES, batch_size)
    images = inputs.make_class_folder(folder, count, workers, config.images)
    cost = roofline.crops_cost(batch_size, shape)
    unit = IMAGES_PER_SECOND
    cases = []
    for encoding in ("jpeg", "raw"):
        dataset = inputs.prepare_dataset(images, folder / encoding, shape, encoding, workers)
        build = partial(workloads.loader, recipe, dataset, batch_size)
        name = f"ours, {encoding} dataset"
        cases.append(BenchmarkCase(name, config.our_process, build, IMAGE_FOLDER, cost, unit))
    baseline = partial(torch_baselines.image_folder, images, shape[1], batch_size)
    baselines = [BenchmarkCase(IMAGE_FOLDER, DEFAULTS, baseline, None, cost, unit)]
    return [*cases, *_with_our_malloc(config, baselines)]


def norm_cases(
    config: BenchmarkConfig, name: str, shape: tuple[int, int, int, int]
) -> list[BenchmarkCase]:
    """Compare a norm's forward and backward pass: our implementations and torch's."""
    runtime = config.runtime
    process = config.our_process
    unit = config.time_unit
    cost = roofline.norm_cost(name, shape, config.itemsize)
    torch_name = f"{name}: torch"
    ours = partial(workloads.norm, NORM, shape, runtime, "")
    plain = partial(workloads.norm, NORM, shape, runtime, "plain")
    baseline = partial(torch_baselines.norm, NORM, shape, runtime.device, runtime.dtype)
    baselines = [BenchmarkCase(torch_name, DEFAULTS, baseline, None, cost, unit)]
    return [
        BenchmarkCase(f"{name}: ours", process, ours, torch_name, cost, unit),
        BenchmarkCase(f"{name}: ours, plain", process, plain, torch_name, cost, unit),
        *_with_our_malloc(config, baselines),
    ]


def _with_our_malloc(
    config: BenchmarkConfig, baselines: list[BenchmarkCase]
) -> list[BenchmarkCase]:
    """Return the baselines, on a CPU also with our allocator settings."""
    if config.runtime.device.type != "cpu":
        return baselines
    process = ProcessSpec("our malloc", config.malloc_tunables)
    repeated = [
        replace(
            case,
            name=f"{case.name}, our malloc",
            process=process,
            against=case.against or case.name,
        )
        for case in baselines
    ]
    return [*baselines, *repeated]
