"""A recipe is three values: the network, what it sees (views), and how it learns (training).

They are kept apart, as the 2012 program kept its layer files from its parameter files, because they change for different
reasons. `with_epochs` and `with_rate` change a recipe's length and rate as a whole; `settings.override` changes anything else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from alexnet.errors import must_be
from alexnet.recipes.layers import Layer, Rounding, Shape, Weighted
from alexnet.recipes.schedules import Plateau, PlateauState, Schedule, Steps, rate_at


@dataclass(frozen=True)
class Network:
    """The layers in the order in which data flows, and how the sizes between them round."""

    input: Shape
    layers: tuple[Layer, ...]
    towers: int = 1
    round_conv: Rounding = "down"
    round_pool: Rounding = "down"

    def __post_init__(self) -> None:
        must_be(min(*self.input, self.towers) >= 1, f"input={self.input}, towers={self.towers}: expected 1 or more of each")


@dataclass(frozen=True)
class Views:
    """What the network sees of a record.

    `shared_by`: how many pictures in a row share one crop and mirror. `mean`: what is subtracted, the mean `image` at the
    place of the `crop` or always its `centre`, or the mean `colour`. `noise`: deviation of the colour noise, as a schedule;
    `noise_unit`: along each eigenvector in units of the root of its eigenvalue (`deviation`) or of the eigenvalue itself
    on a scale where white is 1 (`variance`). `noise_divides`: the noisy input is divided by 1 + noise. `scale` multiplies
    the input. `sizes`: side of the square the network sees while training, as a schedule; None: its own input. `rotation`:
    a picture is turned by up to so many degrees either way before it is cut. `test`: views at test.
    """

    mirror: bool = True
    shared_by: int = 1
    mean: Literal["image", "colour"] = "image"
    mean_at: Literal["crop", "centre"] = "crop"
    noise: Steps = Steps(((0, 0.0),))
    noise_unit: Literal["deviation", "variance"] = "deviation"
    noise_divides: bool = False
    scale: float = 1.0
    sizes: Steps | None = None
    rotation: float = 0.0
    test: Literal[1, 9, 10] = 10

    def __post_init__(self) -> None:
        needed = "views.sizes shrinks pictures, not their mean image: it needs views.mean=colour, or views.sizes=none first"
        must_be(self.sizes is None or self.mean == "colour", needed)


@dataclass(frozen=True)
class Apart:
    """Parameters with a rate or a decay of their own (None: that of all): those whose name ends with `suffix`."""

    suffix: str
    rate: Schedule | None = None
    decay: float | None = None


@dataclass(frozen=True)
class Training:
    """How the network learns: stochastic gradient descent with momentum, the update rule of the paper's section 5.

    `bias_rate` multiplies the rate of biases, unless an `apart` names them (the last one that fits counts). A rate of 0
    freezes. `reshuffle`: a new order of pictures every epoch, or one order for the whole run. `smoothing`: of the labels.
    """

    epochs: int = 90
    batch: int = 128
    rate: Schedule = Plateau()
    momentum: float = 0.9
    decay: float = 5e-4
    decay_biases: bool = False
    bias_rate: float = 1.0
    apart: tuple[Apart, ...] = ()
    smoothing: float = 0.0
    reshuffle: bool = True

    def __post_init__(self) -> None:
        must_be(self.epochs >= 1 and self.batch >= 1, f"epochs={self.epochs}, batch={self.batch}: expected 1 or more of each")

    def batches(self, pictures: int) -> int:
        """Batches in an epoch of so many pictures; the last may be smaller."""
        return -(-pictures // self.batch)

    def rate_of(self, name: str, epoch: float, plateau: PlateauState) -> float:
        """The rate of a parameter, such as `conv1.weight`, at an epoch (a fraction inside one)."""
        own = [apart.rate for apart in self.apart if apart.rate is not None and name.endswith(apart.suffix)]
        if own:
            return rate_at(own[-1], epoch, plateau)
        return rate_at(self.rate, epoch, plateau) * (self.bias_rate if name.endswith(".bias") else 1)

    def rates(self, names: Iterable[str], epoch: float, plateau: PlateauState) -> dict[str, float]:
        """The rates of several parameters."""
        return {name: self.rate_of(name, epoch, plateau) for name in names}

    def decay_of(self, name: str) -> float:
        """The decay of a parameter."""
        if name.endswith(".bias") and not self.decay_biases:
            return 0.0
        own = [apart.decay for apart in self.apart if apart.decay is not None and name.endswith(apart.suffix)]
        return own[-1] if own else self.decay


@dataclass(frozen=True)
class Recipe:
    """A network, what it sees and how it learns, under a name."""

    name: str
    network: Network
    views: Views = field(default_factory=Views)
    training: Training = field(default_factory=Training)


def with_frozen(recipe: Recipe, station: str) -> Recipe:
    """The recipe with every weighted layer up to and with `station` held as it starts: their rates are 0."""
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, Weighted)]
    must_be(station in names, f"--freeze {station}: expected one of {', '.join(names)}")
    frozen = names[: names.index(station) + 1]
    still = tuple(Apart(f"{name}.{part}", Steps(((0, 0.0),))) for name in frozen for part in ("weight", "bias"))
    return replace(recipe, training=replace(recipe.training, apart=recipe.training.apart + still))


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with its largest rate set to this, all its schedules in proportion."""
    must_be(0 < rate < float("inf"), f"lr={rate}: expected a positive number, for instance 0.01")
    training = recipe.training
    factor = rate / training.rate.largest
    apart = tuple(replace(apart, rate=apart.rate and apart.rate.scaled(factor)) for apart in training.apart)
    return replace(recipe, training=replace(training, rate=training.rate.scaled(factor), apart=apart))


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe over another number of epochs, every schedule stretched alike."""
    must_be(epochs >= 1, f"epochs={epochs}: expected 1 or more")
    factor = epochs / recipe.training.epochs
    views, training = recipe.views, recipe.training
    return replace(
        recipe,
        views=replace(views, noise=views.noise.stretched(factor), sizes=views.sizes and views.sizes.stretched(factor)),
        training=replace(
            training,
            epochs=epochs,
            rate=training.rate.stretched(factor),
            apart=tuple(replace(apart, rate=apart.rate and apart.rate.stretched(factor)) for apart in training.apart),
        ),
    )
