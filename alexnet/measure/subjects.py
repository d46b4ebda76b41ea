"""What can be measured - training, inference, the feed, the norm - and who takes part: ours, and the usual ways as rivals.

Every rival runs twice: with the allocator as shipped, which is what people get, and with the settings that the command gives
itself, so that what is owed to them is seen apart. On a GPU the host's allocator hardly matters, so there it runs once.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from alexnet.measure import ceilings, floor, graph, inputs, ours, stock
from alexnet.measure.report import Entry, Report, Unit, rows
from alexnet.measure.rounds import Place, Tick, take_turns
from alexnet.network.norm_kernels import form
from alexnet.recipes.layers import Norm
from alexnet.recipes.named import OWT
from alexnet.recipes.recipe import Recipe
from alexnet.runtime import Runtime, machine

Subject = Literal["train", "infer", "feed", "norm"]
BATCHES: dict[Subject, int] = {"train": 128, "infer": 64, "feed": 128, "norm": 128}
RECORDS = 1000  # in a store, at least
NORM = Norm("norm")  # the paper's: n=5, k=2, alpha=1e-4, beta=.75
NORM_SHAPES = {"norm1": (96, 55, 55), "norm2": (256, 27, 27)}  # in the paper's net
SHIPPED = Place("as shipped")
FOLDER = "class folder"
RATE: Unit = "pictures/s"
TUNED = "our malloc: in a process under the allocator settings that the command gives itself; otherwise as shipped"
LEGEND: dict[Subject, tuple[str, ...]] = {
    "train": (
        "ours: a training step on a fixed batch: forward, loss, backward, update",
        "ours, whole training: the loop itself, with feed, views, step and records",
        "torch: the same net of torch's own modules, eager, float32, NCHW, torch.optim.SGD; bf16: with autocast, on a GPU",
        "torchvision: its net from the published shape, without a norm, float32, NCHW; bf16: with autocast, channels last",
    ),
    "infer": (
        "the number before a name is that of pictures in a batch; ours: logits as evaluate and predict compute them",
        "torch: the same net of torch's own modules, eager, float32, NCHW",
        "ONNX Runtime, OpenVINO: the same net as an ONNX graph with the operator LRN, float32; OpenVINO may choose bf16 itself",
    ),
    "feed": (
        "ours: random crops and mirrors, uint8, from a store of 256-pixel squares, JPEG or raw",
        "class folder: the files decoded by Pillow, random resized crop, mirror, float tensor",
        "on one core; drawn files are 256 to 380 pixels a side; larger ones (--pictures) slow only the class folder",
    ),
    "norm": (
        "ours: the form that is used here; plain: in torch's own operations",
        "torch: F.local_response_norm, NCHW; bf16 by way of float32, as autocast does",
        "all of n=5, k=2, alpha=1e-4, beta=.75, forward and backward",
    ),
}


@dataclass(frozen=True)
class Conditions:
    """What is measured, and how: `threads` are torch's, `allocator` is what GLIBC_TUNABLES is for ours."""

    subject: Subject
    recipe: Recipe
    batch: int
    rounds: int
    threads: int
    runtime: Runtime
    allocator: str
    pictures: str | None = None  # a source of JPEG files for train and feed; None: drawn ones

    @property
    def own(self) -> Place:
        """The process of ours."""
        return Place("ours", self.allocator, ours=True)

    @property
    def width(self) -> int:
        """Bytes of a value in the precision used."""
        return self.runtime.dtype.itemsize

    @property
    def brief(self) -> Unit:
        """The unit for what is soon over."""
        return "ms" if self.runtime.device.type == "cpu" else "µs"

    def title(self) -> str:
        """The conditions in a line."""
        what = self.subject if self.subject == "norm" else f"{self.subject}, {self.recipe.name}"
        where = f"{self.runtime.device} {self.runtime.precision}, threads {self.threads}"
        return f"{what}, batch {self.batch}, {where}, rounds {self.rounds}"

    def to_json(self) -> dict[str, Any]:
        """The conditions as plain data, the machine with them."""
        return {
            "subject": self.subject,
            "recipe": self.recipe.name,
            "pictures": self.pictures or "drawn",
            "batch": self.batch,
            "rounds": self.rounds,
            "threads": self.threads,
            "device": str(self.runtime.device),
            "precision": self.runtime.precision,
            "kernels": form(self.runtime.device),
            "machine": machine(),
        }


def measure(conditions: Conditions, tick: Tick) -> Report:
    """Measure it all, the feed on one core of the host; `tick` is told (done, all) turns."""
    if conditions.subject == "feed":
        host = replace(conditions.runtime, device=torch.device("cpu"), dtype=torch.float32)
        conditions = replace(conditions, threads=1, runtime=host)
    with TemporaryDirectory(prefix="alexnet-measure-") as folder:
        taking_part = entries(conditions, Path(folder))
        first = ceilings.contenders(conditions.own, conditions.runtime)
        timed, missing = take_turns([*first, *taking_part], conditions.rounds, conditions.threads, tick)
    rates, limits = ceilings.reached(timed, conditions.runtime)
    return Report(
        conditions.title(),
        (*LEGEND[conditions.subject], TUNED, f"our kernels: {form(conditions.runtime.device)}"),
        conditions.to_json(),
        rates,
        limits,
        tuple(dict.fromkeys(entry.needs for entry in taking_part if entry.name in timed)),
        tuple(rows(taking_part, timed, limits)),
        missing,
    )


def entries(conditions: Conditions, folder: Path) -> list[Entry]:
    """Everyone who takes part; what they work on is made in the folder."""
    match conditions.subject:
        case "train":
            return train(conditions, folder)
        case "infer":
            return [entry for batch in dict.fromkeys((conditions.batch, 1)) for entry in infer(conditions, batch)]
        case "feed":
            return feed(conditions, folder)
        case "norm":
            return [entry for name, shape in NORM_SHAPES.items() for entry in norm(conditions, name, (conditions.batch, *shape))]


def train(conditions: Conditions, folder: Path) -> list[Entry]:
    """The training step, torch's own of the same net and of torchvision's; the whole training against the bare step."""
    recipe, batch, runtime, own = conditions.recipe, conditions.batch, conditions.runtime, conditions.own
    count = max(RECORDS, (ours.UNTIMED + ours.STEPS) * batch)
    pictures = inputs.class_folder(folder, count, runtime.workers, conditions.pictures)
    store = inputs.store_of(pictures, folder / "store", recipe.network.input, "jpeg", runtime.workers)
    needs = floor.training(recipe.name, recipe.network, inputs.CLASSES, batch, conditions.width)
    needs_owt = floor.training("torchvision's net", OWT.network, inputs.CLASSES, batch, conditions.width)
    bare, whole = partial(ours.training_step, recipe, batch, runtime), partial(ours.whole_training, recipe, store, batch, runtime)
    step = partial(stock.training_step, batch=batch, device=runtime.device)
    same, owt, owt_bf16 = (
        partial(step, network, autocast=autocast)
        for network, autocast in ((recipe.network, False), (OWT.network, False), (OWT.network, True))
    )
    mine = [
        Entry("ours", own, bare, "torch", needs, RATE),
        Entry("ours, whole training", own, whole, "ours", needs, RATE),
    ]
    rivals = [
        Entry("torch", SHIPPED, same, None, needs, RATE),
        Entry("torchvision", SHIPPED, owt, "torch", needs_owt, RATE),
        Entry("torchvision bf16", SHIPPED, owt_bf16, "torch", needs_owt, RATE),
    ]
    if runtime.device.type == "cuda":  # a processor would take minutes for it
        same_bf16 = partial(step, recipe.network, autocast=True)
        rivals.append(Entry("torch bf16", SHIPPED, same_bf16, "torch", needs, RATE))
    return mine + _also_tuned(conditions, rivals)


def infer(conditions: Conditions, batch: int) -> list[Entry]:
    """The logits of a batch: ours, torch's, and by the engines that serve ONNX graphs."""
    recipe, runtime, reference = conditions.recipe, conditions.runtime, f"{batch}: torch"
    needs = floor.inference(recipe.name, recipe.network, inputs.CLASSES, batch, conditions.width)
    unit = RATE if batch > 1 else conditions.brief
    mine = partial(ours.inference, recipe, batch, runtime)
    usual = partial(stock.inference, recipe.network, batch, runtime.device)
    served = partial(graph.inference, recipe.network, batch, runtime.device)
    rivals = [
        Entry(reference, SHIPPED, usual, None, needs, unit),
        Entry(f"{batch}: ONNX Runtime", SHIPPED, partial(served, graph.onnx_runtime), reference, needs, unit),
        Entry(f"{batch}: OpenVINO", SHIPPED, partial(served, graph.openvino), reference, needs, unit),
    ]
    return [Entry(f"{batch}: ours", conditions.own, mine, reference, needs, unit), *_also_tuned(conditions, rivals)]


def feed(conditions: Conditions, folder: Path) -> list[Entry]:
    """Batches of crops from our stores, and from a class folder as image loaders make them."""
    recipe, batch, workers = conditions.recipe, conditions.batch, conditions.runtime.workers
    shape = recipe.network.input
    pictures = inputs.class_folder(folder, max(RECORDS, batch), workers, conditions.pictures)
    needs = floor.crops(batch, shape)
    usual = partial(stock.class_folder, pictures, shape[1], batch)
    stores = [inputs.store_of(pictures, folder / encoding, shape, encoding, workers) for encoding in ("jpeg", "raw")]
    mine = [
        Entry(f"ours, {store.name} store", conditions.own, partial(ours.stream, recipe, store, batch), FOLDER, needs, RATE)
        for store in stores
    ]
    return mine + _also_tuned(conditions, [Entry(FOLDER, SHIPPED, usual, None, needs, RATE)])


def norm(conditions: Conditions, name: str, shape: tuple[int, int, int, int]) -> list[Entry]:
    """The norm of a tensor of that shape forward and backward: ours in both forms, and torch's."""
    runtime, own, unit = conditions.runtime, conditions.own, conditions.brief
    needs = floor.norm(name, shape, conditions.width)
    mine = partial(ours.norm, NORM, shape, runtime)
    theirs = partial(stock.norm, NORM, shape, runtime.device, runtime.dtype)
    rivals = [Entry(f"{name}: torch", SHIPPED, theirs, None, needs, unit)]
    return [
        Entry(f"{name}: ours", own, partial(mine, ""), rivals[0].name, needs, unit),
        Entry(f"{name}: ours, plain", own, partial(mine, "plain"), rivals[0].name, needs, unit),
        *_also_tuned(conditions, rivals),
    ]


def _also_tuned(conditions: Conditions, rivals: list[Entry]) -> list[Entry]:
    """The rivals as shipped, and on a CPU under our allocator's settings as well."""
    tuned = Place("tuned", conditions.allocator)
    again = [replace(each, name=f"{each.name}, our malloc", place=tuned, against=each.against or each.name) for each in rivals]
    return rivals + again if conditions.runtime.device.type == "cpu" else rivals
