"""A recipe is three values: the network, the augmentation of its images, and the training.

They are kept apart, as the 2012 program kept its layer files from its parameter files, because they
change for different reasons. `with_epochs` and `with_lr` change a recipe's length and learning rate
as a whole; `overrides.override` changes anything else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from alexnet.core.errors import require
from alexnet.recipes.layers import Layer, Shape, WeightedLayer
from alexnet.recipes.schedules import (
    PiecewiseConstant,
    PlateauState,
    ReduceOnPlateau,
    Schedule,
    value_at,
)


@dataclass(frozen=True)
class Network:
    """The layers in the order in which data flows, and how the sizes between them round.

    `towers`: into how many parts normalizations and devices divide the channels. `num_classes`: of
    the data the network was made for; a prepared dataset's own number takes its place.
    """

    input: Shape
    layers: tuple[Layer, ...]
    towers: int = 1
    conv_ceil_mode: bool = False
    pool_ceil_mode: bool = False
    num_classes: int = 1000

    def __post_init__(self) -> None:
        require(
            min(*self.input, self.towers, self.num_classes) >= 1,
            f"input={self.input}, towers={self.towers}, num_classes={self.num_classes}: "
            "expected 1 or more of each",
        )


@dataclass(frozen=True)
class Augmentation:
    """What the network sees of a record.

    `crop_group_size`: how many images in a row share one crop and mirror. `mean`: what is
    subtracted, the mean `image` at the `crop`'s position or always its `center`, or the mean
    `color`. `color_jitter`: standard deviation of the color noise (PCA), as a schedule;
    `color_jitter_unit`: along each eigenvector in units of the root of its eigenvalue (`deviation`)
    or of the eigenvalue itself on a scale where white is 1 (`variance`). `rescale_by_jitter`: the
    noisy input is divided by 1 + color_jitter. `scale` multiplies the input. `resolution_schedule`:
    side of the square the network sees in training, as a schedule; None: its own input. `rotation`:
    an image is rotated by up to this many degrees either way before it is cropped. `test_crops`:
    crops at test.
    """

    mirror: bool = True
    crop_group_size: int = 1
    mean: Literal["image", "color"] = "image"
    mean_at: Literal["crop", "center"] = "crop"
    color_jitter: PiecewiseConstant = PiecewiseConstant(((0, 0.0),))
    color_jitter_unit: Literal["deviation", "variance"] = "deviation"
    rescale_by_jitter: bool = False
    scale: float = 1.0
    resolution_schedule: PiecewiseConstant | None = None
    rotation: float = 0.0
    test_crops: Literal[1, 9, 10] = 10

    def __post_init__(self) -> None:
        require(
            self.resolution_schedule is None or self.mean == "color",
            "augmentation.resolution_schedule shrinks images, not their mean image: it needs "
            "augmentation.mean=color, or augmentation.resolution_schedule=none first",
        )


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with a learning rate or weight decay of their own (None: that of all).

    They are those whose name ends with `suffix`.
    """

    suffix: str
    lr: Schedule | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class Training:
    """How the network learns: SGD with momentum, the update rule of the paper's section 5.

    `bias_lr_mult` multiplies the learning rate of biases, unless a param group names them (the last
    one that fits counts). A learning rate of 0 freezes. `reshuffle`: a new order of images every
    epoch, or one order for the whole run.
    """

    epochs: int = 90
    batch_size: int = 128
    lr: Schedule = ReduceOnPlateau()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_biases: bool = False
    bias_lr_mult: float = 1.0
    param_groups: tuple[ParamGroup, ...] = ()
    label_smoothing: float = 0.0
    reshuffle: bool = True

    def __post_init__(self) -> None:
        require(
            self.epochs >= 1 and self.batch_size >= 1,
            f"epochs={self.epochs}, batch_size={self.batch_size}: expected 1 or more of each",
        )

    def steps_per_epoch(self, images: int) -> int:
        """Return the number of batches in an epoch of `images`; the last may be smaller."""
        return -(-images // self.batch_size)

    def lr_of(self, name: str, epoch: float, plateau: PlateauState) -> float:
        """Return a parameter's learning rate, such as conv1.weight's, at a (fractional) epoch."""
        own = [
            group.lr
            for group in self.param_groups
            if group.lr is not None and name.endswith(group.suffix)
        ]
        if own:
            return value_at(own[-1], epoch, plateau)
        mult = self.bias_lr_mult if name.endswith(".bias") else 1
        return value_at(self.lr, epoch, plateau) * mult

    def lrs(self, names: Iterable[str], epoch: float, plateau: PlateauState) -> dict[str, float]:
        """Return the learning rates of several parameters."""
        return {name: self.lr_of(name, epoch, plateau) for name in names}

    def weight_decay_of(self, name: str) -> float:
        """Return a parameter's weight decay."""
        if name.endswith(".bias") and not self.decay_biases:
            return 0.0
        own = [
            group.weight_decay
            for group in self.param_groups
            if group.weight_decay is not None and name.endswith(group.suffix)
        ]
        return own[-1] if own else self.weight_decay


@dataclass(frozen=True)
class Recipe:
    """A network, what it sees and how it learns, under a name."""

    name: str
    network: Network
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: Training = field(default_factory=Training)


def with_frozen(recipe: Recipe, layer: str) -> Recipe:
    """Return the recipe with every weighted layer up to and including `layer` frozen (lr 0)."""
    names = [spec.name for spec in recipe.network.layers if isinstance(spec, WeightedLayer)]
    require(layer in names, f"--freeze-until {layer}: expected one of {', '.join(names)}")
    frozen = tuple(
        ParamGroup(f"{name}.{part}", PiecewiseConstant(((0, 0.0),)))
        for name in names[: names.index(layer) + 1]
        for part in ("weight", "bias")
    )
    groups = recipe.training.param_groups + frozen
    return replace(recipe, training=replace(recipe.training, param_groups=groups))


def with_lr(recipe: Recipe, lr: float) -> Recipe:
    """Return the recipe with its largest learning rate set to `lr`, all schedules in proportion."""
    require(0 < lr < float("inf"), f"lr={lr}: expected a positive number, for instance 0.01")
    training = recipe.training
    factor = lr / training.lr.largest
    groups = tuple(
        replace(group, lr=group.lr and group.lr.scaled(factor)) for group in training.param_groups
    )
    scaled = replace(training, lr=training.lr.scaled(factor), param_groups=groups)
    return replace(recipe, training=scaled)


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe over another number of epochs, every schedule stretched alike."""
    require(epochs >= 1, f"epochs={epochs}: expected 1 or more")
    factor = epochs / recipe.training.epochs
    return replace(
        recipe,
        augmentation=_stretched_augmentation(recipe.augmentation, factor),
        training=replace(_stretched_training(recipe.training, factor), epochs=epochs),
    )


def _stretched_augmentation(augmentation: Augmentation, factor: float) -> Augmentation:
    resolutions = augmentation.resolution_schedule
    return replace(
        augmentation,
        color_jitter=augmentation.color_jitter.stretched(factor),
        resolution_schedule=resolutions and resolutions.stretched(factor),
    )


def _stretched_training(training: Training, factor: float) -> Training:
    groups = tuple(
        replace(group, lr=group.lr and group.lr.stretched(factor))
        for group in training.param_groups
    )
    return replace(training, lr=training.lr.stretched(factor), param_groups=groups)
