"""A recipe's network as a list of operators, each with the names of what it reads and writes, in the words of Caffe2.

In go a network's layers and how they are trained; out come operators, in the order in which they run. Caffe2's vocabulary was
chosen because a published listing of this very net is written in it (seed 004), and because it says what a list of layers leaves
open: what is overwritten, and from what each gradient is computed. As there, an `LRN` divides its alpha by its window, a pool
that rounds up has `legacy_pad:3` (Caffe's rounding), padding that is not the same on all sides has `pad_t`, `pad_l`, `pad_b` and
`pad_r`, and the gradient of a dropout is called `DropoutGrad`.

Not Caffe2's words: `norm_region:WITHIN_CHANNEL` of an `LRN` over pixels (Caffe's own); `towers`, the equal parts of the maps that
an `LRN` keeps apart; `group` of an `FC`; `rescale:test` of a `Dropout` that multiplies by 1 - ratio at test and by nothing in
training; `smoothing` of the labels; the operator `Fit`; an update's `decay` and its `rate`, the first of its schedule, which
Caffe2 keeps outside the update. Nothing is computed here, and nothing is known of values or batches.
"""

from dataclasses import dataclass, field

from alexnet.network.geometry import Planned, plan
from alexnet.recipes.layers import Activation, Conv, Dropout, Fit, Full, Local, Norm, Pool, Rounding, SpatialNorm, Weighted
from alexnet.recipes.recipe import Network, Recipe, Training
from alexnet.recipes.schedules import PlateauState

Attributes = dict[str, int | float | str]

DATA = "data"
HEADING = "net: ------------- AlexNet -------------"

UNREAD = {"Conv", "LC", "FC"}  # their gradients do not read what they wrote, so that it may be overwritten


@dataclass(frozen=True)
class Operator:
    """One step: its kind, the names it reads and writes, and its settings in the order in which they are printed."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)

    def line(self) -> str:
        """As Caffe2's nets are printed: `op: Dropout (fc6)->(fc6 _fc6_mask) ratio:0.5 is_test:1`."""
        settings = [f"{name}:{value if isinstance(value, str) else f'{value:g}'}" for name, value in self.attributes.items()]
        return " ".join([f"op: {self.kind} ({' '.join(self.inputs)})->({' '.join(self.outputs)})", *settings])


def graph(recipe: Recipe, classes: int, training: bool) -> tuple[Operator, ...]:
    """All operators of a recipe: from `data` to `prob`, or one whole step of training. UsageError where the sizes do not fit."""
    ahead = forward(recipe.network, classes, training)
    if not training:
        return ahead
    ahead += loss(recipe.training)
    return ahead + backward(ahead) + updates(recipe)


def forward(network: Network, classes: int, training: bool) -> tuple[Operator, ...]:
    """From `data` to `prob`: one operator for each layer, and a softmax."""
    operators: list[Operator] = []
    blob = DATA
    for step in plan(network, classes):
        writers = {operator.kind for operator in operators if blob in operator.outputs}
        operators.append(_operator(step, blob, writers, network, training))
        blob = operators[-1].outputs[0]
    return (*operators, Operator("Softmax", (blob,), ("prob",)))


def loss(training: Training) -> tuple[Operator, ...]:
    """From `prob` and `label` to `loss`, the mean over the batch."""
    smoothing: Attributes = {"smoothing": training.smoothing} if training.smoothing else {}
    entropy = Operator("LabelCrossEntropy", ("prob", "label"), ("xent",), smoothing)
    return entropy, Operator("AveragedLoss", ("xent",), ("loss",))


def backward(ahead: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """The gradients of the last operator's output, in reverse order; none is taken with respect to `data`."""
    last = ahead[-1].outputs[0]
    one = Operator("ConstantFill", (last,), (_grad(last),), {"value": 1})
    return (one, *(_gradient(operator) for operator in reversed(ahead)))


def updates(recipe: Recipe) -> tuple[Operator, ...]:
    """The update of every weight and bias: m <- momentum m + rate (gradient + decay w), w <- w - m (paper, section 5)."""
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, Weighted)]
    return tuple(_update(recipe.training, name, part) for name in names for part in ("weight", "bias"))


# ---- one operator


def _operator(step: Planned, blob: str, writers: set[str], network: Network, training: bool) -> Operator:
    """The operator of a layer that reads `blob`; one without a name overwrites it where no gradient of its writers suffers."""
    match step.layer:
        case Conv() as conv:
            windows = _windows(conv.size, conv.stride, conv.pad, step.overhang)
            return _weighted("Conv", conv.name, blob, windows | _group(conv.groups))
        case Local() as local:
            return _weighted("LC", local.name, blob, _windows(local.size, 1, local.pad))
        case Full() as full:
            return _weighted("FC", full.name, blob, _group(full.groups))
        case Norm() | SpatialNorm() as norm:
            return Operator("LRN", (blob,), (norm.name, f"_{norm.name}_scale"), _norm(norm, network.towers))
        case Pool() as pool:
            kind = "MaxPool" if pool.takes == "max" else "AveragePool"
            return Operator(kind, (blob,), (pool.name,), _windows(pool.size, pool.stride, 0) | _rounding(network.round_pool))
        case Activation(function="relu"):  # no gradient passes where it changed a value, so it may always overwrite
            return Operator("Relu", (blob,), (blob,))
        case Activation(function=function):
            return Operator(function.capitalize(), (blob,), (blob if writers <= UNREAD else f"{blob}_{function}",))
        case (
            Dropout() as dropout
        ):  # a relu's gradient reads the sign alone, which dropout leaves or, with the gradient, puts to 0
            return _dropout(dropout, blob, blob if writers <= UNREAD | {"Relu"} else f"{blob}_dropout", training)
        case Fit():
            return Operator("Fit", (blob,), (f"{blob}_fit",), {"height": step.gives[1], "width": step.gives[2]})


def _weighted(kind: str, name: str, blob: str, attributes: Attributes) -> Operator:
    return Operator(kind, (blob, f"{name}_w", f"{name}_b"), (name,), attributes)


def _dropout(dropout: Dropout, blob: str, output: str, training: bool) -> Operator:
    attributes: Attributes = {"ratio": dropout.p, "is_test": int(not training)}
    rescale: Attributes = {"rescale": "test"} if dropout.rescale == "test" else {}
    return Operator("Dropout", (blob,), (output, f"_{output}_mask"), attributes | rescale)


def _windows(size: int, stride: int, pad: int, overhang: tuple[int, int] = (0, 0)) -> Attributes:
    down, right = overhang
    uneven: Attributes = {"pad_t": pad, "pad_l": pad, "pad_b": pad + down, "pad_r": pad + right}
    return {"stride": stride, **(uneven if any(overhang) else {"pad": pad}), "kernel": size, "order": "NCHW"}


def _group(groups: int) -> Attributes:
    return {"group": groups} if groups > 1 else {}


def _rounding(rounding: Rounding) -> Attributes:
    return {"legacy_pad": 3} if rounding == "up" else {}


def _norm(norm: Norm | SpatialNorm, towers: int) -> Attributes:
    values = norm.n if isinstance(norm, Norm) else norm.n**2  # in a window; Caffe and Caffe2 divide alpha by them
    alpha = norm.alpha * values
    settings: Attributes = {"size": norm.n, "alpha": alpha, "beta": norm.beta, "bias": norm.k, "order": "NCHW"}
    if isinstance(norm, SpatialNorm):
        return settings | {"norm_region": "WITHIN_CHANNEL"}
    return settings | ({"towers": towers} if norm.within == "tower" and towers > 1 else {})


def _gradient(operator: Operator) -> Operator:
    """The operator that takes the gradient of another's first output to what it read: to its weights first, then to its data."""
    flowed, *weights = operator.inputs
    written, *beside = operator.outputs
    kind, to = f"{operator.kind}Gradient", [flowed]
    reads: tuple[str, ...] = written, _grad(written)
    match operator.kind:
        case "Conv" | "LC" | "FC":
            reads, to = (flowed, weights[0], _grad(written)), [*weights, flowed]
        case "LRN" | "MaxPool" | "AveragePool":
            reads = (flowed, written, _grad(written))
        case "LabelCrossEntropy" | "AveragedLoss" | "Fit":
            reads = (*operator.inputs, _grad(written))
        case "Dropout":
            kind, reads = "DropoutGrad", (_grad(written), beside[0])
    return Operator(kind, reads, tuple(_grad(name) for name in to if name != DATA), operator.attributes)


def _grad(name: str) -> str:
    return f"{name}_grad"


def _update(training: Training, layer: str, part: str) -> Operator:
    """The update of a layer's weight or bias, with the momentum, the first rate and the decay that the recipe gives it."""
    parameter = f"{layer}_{part[0]}"
    kept = _grad(parameter), f"{parameter}_momentum", parameter
    rate, decay = training.rate_of(f"{layer}.{part}", 0, PlateauState()), training.decay_of(f"{layer}.{part}")
    return Operator("MomentumSGDUpdate", kept, kept, {"momentum": training.momentum, "rate": rate, "decay": decay})
