"""List a recipe's network as Caffe2 operators, each with the names of what it reads and writes.

Operators come in the order in which they run. Caffe2's vocabulary was chosen because a published
listing of this very network uses it ("AlexNet paper reading", docs/references.md), and because it
says what a list of layers leaves open: what is overwritten, and what each gradient is computed
from. As there, an
`LRN` divides its alpha by its window, a pool that rounds up has `legacy_pad:3` (Caffe's
rounding), padding that differs between the sides has `pad_t`, `pad_l`, `pad_b` and `pad_r`, and
the gradient of a dropout is called `DropoutGrad`.

Not Caffe2's: `norm_region:WITHIN_CHANNEL` of an `LRN` over pixels (Caffe's own); `towers`, the
equal parts of the channels that an `LRN` keeps separate; `group` of an `FC`; `rescale:test` of a
`Dropout` that multiplies by 1 - ratio at test time only; `smoothing` of the labels; the operator
`AdaptivePool`; an update's `weight_decay` and `lr`, the first of its schedule.
"""

from dataclasses import dataclass, field

from alexnet.models.shapes import LayerShape, infer_shapes
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
    WeightedLayer,
)
from alexnet.recipes.recipe import Network, Recipe, Training
from alexnet.recipes.schedules import PlateauState

Attributes = dict[str, int | float | str]

DATA = "data"
HEADING = "net: ------------- AlexNet -------------"

# The gradients of these do not read their output, so that it may be overwritten.
OUTPUT_NOT_READ = {"Conv", "LC", "FC"}


@dataclass(frozen=True)
class Operator:
    """An operator: its kind, the names it reads and writes, its attributes in printing order."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)

    def line(self) -> str:
        """Format as Caffe2 does: `op: Dropout (fc6)->(fc6 _fc6_mask) ratio:0.5 is_test:1`."""
        inputs = " ".join(self.inputs)
        outputs = " ".join(self.outputs)
        settings = [
            f"{name}:{value if isinstance(value, str) else f'{value:g}'}"
            for name, value in self.attributes.items()
        ]
        return " ".join([f"op: {self.kind} ({inputs})->({outputs})", *settings])


def list_operators(recipe: Recipe, num_classes: int, training: bool) -> tuple[Operator, ...]:
    """List the operators from `data` to `prob`, or those of a whole training step.

    Raises UsageError where the sizes do not fit.
    """
    forward = forward_operators(recipe.network, num_classes, training)
    if not training:
        return forward
    forward += loss_operators(recipe.training)
    return forward + gradient_operators(forward) + update_operators(recipe)


def forward_operators(network: Network, num_classes: int, training: bool) -> tuple[Operator, ...]:
    """List the operators from `data` to `prob`: one for each layer, and a softmax."""
    operators: list[Operator] = []
    blob = DATA
    for step in infer_shapes(network, num_classes):
        writers = {operator.kind for operator in operators if blob in operator.outputs}
        operators.append(_layer_operator(step, blob, writers, network, training))
        blob = operators[-1].outputs[0]
    return (*operators, Operator("Softmax", (blob,), ("prob",)))


def loss_operators(training: Training) -> tuple[Operator, ...]:
    """List the operators from `prob` and `label` to `loss`, the mean over the batch."""
    attributes: Attributes = {}
    if training.label_smoothing:
        attributes["smoothing"] = training.label_smoothing
    return (
        Operator("LabelCrossEntropy", ("prob", "label"), ("xent",), attributes),
        Operator("AveragedLoss", ("xent",), ("loss",)),
    )


def gradient_operators(forward: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """List the gradients of the last operator's output, in reverse order; `data` gets none."""
    last = forward[-1].outputs[0]
    one = Operator("ConstantFill", (last,), (_grad(last),), {"value": 1})
    return (one, *(_gradient(operator) for operator in reversed(forward)))


def update_operators(recipe: Recipe) -> tuple[Operator, ...]:
    """List the updates: m <- momentum m + lr (gradient + weight_decay w), w <- w - m."""
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, WeightedLayer)]
    return tuple(
        _update(recipe.training, name, part) for name in names for part in ("weight", "bias")
    )


# ---- one operator


def _layer_operator(
    step: LayerShape, blob: str, writers: set[str], network: Network, training: bool
) -> Operator:
    """Return the operator of a layer that reads `blob`; `writers`: the kinds that wrote it."""
    match step.layer:
        case Conv() as conv:
            attributes = _window(conv.kernel_size, conv.stride, conv.padding, step.extra_padding)
            return _weighted("Conv", conv.name, blob, attributes | _group(conv.groups))
        case LocallyConnected() as local:
            return _weighted("LC", local.name, blob, _window(local.kernel_size, 1, local.padding))
        case Linear() as linear:
            return _weighted("FC", linear.name, blob, _group(linear.groups))
        case LocalResponseNorm() | SpatialResponseNorm() as norm:
            outputs = (norm.name, f"_{norm.name}_scale")
            return Operator("LRN", (blob,), outputs, _norm(norm, network.towers))
        case Pool() as pool:
            kind = "MaxPool" if pool.mode == "max" else "AveragePool"
            attributes = _window(pool.kernel_size, pool.stride, 0)
            if network.pool_ceil_mode:
                attributes["legacy_pad"] = 3
            return Operator(kind, (blob,), (pool.name,), attributes)
        case Activation() as activation:
            return _activation(activation, blob, writers)
        case Dropout() as dropout:
            return _dropout(dropout, blob, writers, training)
        case AdaptiveAvgPool():
            _, height, width = step.out_shape
            attributes = {"height": height, "width": width}
            return Operator("AdaptivePool", (blob,), (f"{blob}_resized",), attributes)


def _weighted(kind: str, name: str, blob: str, attributes: Attributes) -> Operator:
    return Operator(kind, (blob, f"{name}_w", f"{name}_b"), (name,), attributes)


def _activation(activation: Activation, blob: str, writers: set[str]) -> Operator:
    """Return an activation, which overwrites its input where no gradient needs that any more."""
    function = activation.function
    # A relu may always overwrite: no gradient passes where it changed a value.
    in_place = function == "relu" or writers <= OUTPUT_NOT_READ
    output = blob if in_place else f"{blob}_{function}"
    return Operator(function.capitalize(), (blob,), (output,))


def _dropout(dropout: Dropout, blob: str, writers: set[str], training: bool) -> Operator:
    """Return a dropout, which overwrites its input where no gradient needs that any more."""
    # A relu's gradient reads only the sign, which dropout keeps, or sets to 0 with the gradient.
    in_place = writers <= OUTPUT_NOT_READ | {"Relu"}
    output = blob if in_place else f"{blob}_dropout"
    attributes: Attributes = {"ratio": dropout.p, "is_test": int(not training)}
    if dropout.rescale == "test":
        attributes["rescale"] = "test"
    return Operator("Dropout", (blob,), (output, f"_{output}_mask"), attributes)


def _window(
    kernel_size: int, stride: int, padding: int, extra_padding: tuple[int, int] = (0, 0)
) -> Attributes:
    """Return the attributes of a window; `extra_padding` is that of the bottom and the right."""
    bottom, right = extra_padding
    pads: Attributes = {"pad": padding}
    if bottom or right:
        pads = {
            "pad_t": padding,
            "pad_l": padding,
            "pad_b": padding + bottom,
            "pad_r": padding + right,
        }
    return {"stride": stride, **pads, "kernel": kernel_size, "order": "NCHW"}


def _group(groups: int) -> Attributes:
    return {"group": groups} if groups > 1 else {}


def _norm(norm: LocalResponseNorm | SpatialResponseNorm, towers: int) -> Attributes:
    """Return the attributes of a norm; Caffe and Caffe2 divide alpha by the window's values."""
    window_values = norm.n if isinstance(norm, LocalResponseNorm) else norm.n**2
    attributes: Attributes = {
        "size": norm.n,
        "alpha": norm.alpha * window_values,
        "beta": norm.beta,
        "bias": norm.k,
        "order": "NCHW",
    }
    if isinstance(norm, SpatialResponseNorm):
        attributes["norm_region"] = "WITHIN_CHANNEL"
    elif norm.scope == "tower" and towers > 1:
        attributes["towers"] = towers
    return attributes


def _gradient(operator: Operator) -> Operator:
    """Return the operator that computes the gradients of an operator's inputs.

    The gradients of the weights come first, then that of the data.
    """
    data, *weights = operator.inputs
    output, *other_outputs = operator.outputs
    kind = f"{operator.kind}Gradient"
    targets = [data]
    reads: tuple[str, ...] = (output, _grad(output))
    match operator.kind:
        case "Conv" | "LC" | "FC":
            reads = (data, weights[0], _grad(output))
            targets = [*weights, data]
        case "LRN" | "MaxPool" | "AveragePool":
            reads = (data, output, _grad(output))
        case "LabelCrossEntropy" | "AveragedLoss" | "AdaptivePool":
            reads = (*operator.inputs, _grad(output))
        case "Dropout":
            kind = "DropoutGrad"
            reads = (_grad(output), other_outputs[0])
    outputs = tuple(_grad(name) for name in targets if name != DATA)
    return Operator(kind, reads, outputs, operator.attributes)


def _grad(name: str) -> str:
    return f"{name}_grad"


def _update(training: Training, layer: str, part: str) -> Operator:
    """Return the update of a layer's weight or bias, with the first lr of its schedule."""
    blob = f"{layer}_{part[0]}"
    parameter = f"{layer}.{part}"
    names = (_grad(blob), f"{blob}_momentum", blob)
    attributes: Attributes = {
        "momentum": training.momentum,
        "lr": training.lr_of(parameter, 0, PlateauState()),
        "weight_decay": training.weight_decay_of(parameter),
    }
    return Operator("MomentumSGDUpdate", names, names, attributes)
