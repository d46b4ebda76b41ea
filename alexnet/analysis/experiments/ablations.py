"""What the experiments compare: an experiment is a value, its ablations are changes of one recipe.

The changes are functions of a recipe, or of its network, that find layers by type, so the same
comparison can be made on `modern`, `original`, `paper` and others; a change that does not apply is
a UsageError. The first ablation of an experiment is the baseline. Published results are errors in
percentage points, top-1 then top-5, with their source: sections are the paper's, runs (#145) those
of the published 2012 program on ILSVRC-2012 val with ten crops unless something else is stated.
How ablations are trained and measured is in `runner`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Literal, TypeVar

from alexnet.core.errors import UsageError, require
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.ablation_nets import replace_layers
from alexnet.recipes.layers import (
    RELU,
    SIGMOID,
    TANH,
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
    WeightedLayer,
)
from alexnet.recipes.presets import ORIGINAL, PAPER
from alexnet.recipes.recipe import Augmentation, Network, Recipe
from alexnet.recipes.schedules import PiecewiseConstant

LayerType = TypeVar("LayerType", bound=Layer)
RecipeChange = Callable[[Recipe], Recipe]
HINT = "choose another --recipe"


@dataclass(frozen=True)
class Published:
    """A result of 2012 in a sentence, with its source."""

    result: str
    source: str
    effect: float | None = None  # relative to the baseline, in the unit of the experiment


@dataclass(frozen=True)
class Ablation:
    """One side of a comparison: a change of the base recipe."""

    label: str
    change: RecipeChange
    published: tuple[Published, ...] = ()
    center_only: bool = False  # trains on the center of each image, without random crops


@dataclass(frozen=True)
class QuickSettings:
    """The small version of an experiment."""

    images: int = 1000  # of train, at most
    epochs: int | None = 3  # None: the recipe's own
    seeds: int = 1


@dataclass(frozen=True)
class Experiment:
    """A question, the ablations that answer it, and what is measured.

    `measure`: the `errors` on a split; the `epochs` to a training error; the errors of an
    `ensemble` of the runs; or the `sparsity` of their activations.
    """

    name: str
    question: str
    ablations: tuple[Ablation, ...]
    measure: Literal["errors", "epochs", "ensemble", "sparsity"] = "errors"
    recipe: str = "modern"
    seeds: int = 3
    convergence: bool = False  # with `errors`: also the epochs to a val error that all reach
    quick: QuickSettings = QuickSettings()


# ---- changes of the network


def change_network(change: Callable[[Network], Network]) -> RecipeChange:
    """Return the change of a recipe that changes its network."""
    return lambda recipe: replace(recipe, network=change(recipe.network))


def remove_layers(what: str, kinds: tuple[type[Layer], ...], network: Network) -> Network:
    """Remove every layer of some types; `what` names them in the error."""
    layers = tuple(layer for layer in network.layers if not isinstance(layer, kinds))
    require(len(layers) < len(network.layers), f"this network has no {what} to remove; {HINT}")
    return replace(network, layers=layers)


remove_norms = partial(
    remove_layers, "response normalization", (LocalResponseNorm, SpatialResponseNorm)
)
remove_dropout = partial(remove_layers, "dropout", (Dropout,))


def without_pool_overlap(network: Network) -> Network:
    """Make pooling windows no wider than their stride.

    Where the output would grow, the convolution before the pool gets a pixel less padding, as in
    run #147.
    """
    overlapping = [pool for pool in _layers_of(network, Pool) if pool.kernel_size > pool.stride]
    require(bool(overlapping), f"no pooling windows of this network overlap; {HINT}")
    sides = _pool_output_sides(network)
    for pool in overlapping:
        network = replace_layers(network, replace(pool, kernel_size=pool.stride))
        before = network.layers[: _layer_index(network, pool.name)]
        convs = [layer for layer in before if isinstance(layer, Conv)]
        grown = _pool_output_sides(network)[pool.name] > sides[pool.name]
        if grown and convs and convs[-1].padding:
            narrower = replace(convs[-1], padding=convs[-1].padding - 1)
            network = replace_layers(network, narrower)
    return network


def with_avg_pooling(network: Network) -> Network:
    """Replace max pooling by average pooling.

    A relu right after a pool moves before it: with the maximum the order does not matter, with the
    mean it does, and the paper's is relu, pool.
    """
    layers = list(network.layers)
    max_pools = [
        (i, layer)
        for i, layer in enumerate(layers)
        if isinstance(layer, Pool) and layer.mode == "max"
    ]
    require(bool(max_pools), f"this network has no max pooling; {HINT}")
    for i, pool in max_pools:
        avg_pool = replace(pool, mode="avg")
        if layers[i + 1] == RELU:
            layers[i : i + 2] = [RELU, avg_pool]
        else:
            layers[i] = avg_pool
    return replace(network, layers=tuple(layers))


def half_width(network: Network) -> Network:
    """Return one tower with half the kernels, except in the last convolution.

    It is the paper's one-GPU network, run #145-half.
    """
    _require_towers(network)
    *narrowed, last = _layers_of(network, Conv)
    convs = [replace(conv, out_channels=conv.out_channels // 2, groups=1) for conv in narrowed]
    return replace_layers(replace(network, towers=1), *convs, replace(last, groups=1))


def without_tower_exchange(network: Network) -> Network:
    """Return towers that meet in the last layer only.

    As in run #150, the second convolution is a quarter wider and the first linear layer twice as
    wide, which makes up for most of the weights between the towers.
    """
    _require_towers(network)
    _, conv2, *convs = _layers_of(network, Conv)
    first, *hidden, _ = _layers_of(network, Linear)
    widened: tuple[Conv | Linear, ...] = (
        replace(conv2, out_channels=conv2.out_channels * 5 // 4),
        *convs,
        replace(first, out_features=2 * first.out_features),
        *hidden,
    )
    grouped = [replace(layer, groups=network.towers) for layer in widened]
    return replace_layers(network, *grouped)


def without_conv(name: str, network: Network) -> Network:
    """Remove a convolution with its relu and norms, but keep its pool, so that sizes stay the same.

    If it saw both towers, the next convolution does instead. What follows the last convolution
    gets the channels of the one before, however many.
    """
    names = [conv.name for conv in _layers_of(network, Conv)]
    require(name in names[1:], f"this network has no {name} that could be removed; {HINT}")
    layers = network.layers
    start = _layer_index(network, name)
    end = next(i for i in range(start + 1, len(layers)) if isinstance(layers[i], WeightedLayer))
    removed = layers[start]
    following = layers[end]
    if isinstance(removed, Conv) and isinstance(following, Conv):
        following = replace(following, groups=min(removed.groups, following.groups))
    pools = [layer for layer in layers[start:end] if isinstance(layer, Pool | AdaptiveAvgPool)]
    return replace(network, layers=(*layers[:start], *pools, following, *layers[end + 1 :]))


def with_activation(activation: Activation, network: Network) -> Network:
    """Replace every activation function."""
    layers = tuple(
        activation if isinstance(layer, Activation) else layer for layer in network.layers
    )
    return replace(network, layers=layers)


def _pool_output_sides(network: Network) -> dict[str, int]:
    """Return the height of each pool's output."""
    return {
        step.layer.name: step.out_shape[1]
        for step in infer_shapes(network, num_classes=2)
        if isinstance(step.layer, Pool)
    }


def _layers_of(network: Network, kind: type[LayerType]) -> list[LayerType]:
    return [layer for layer in network.layers if isinstance(layer, kind)]


def _layer_index(network: Network, name: str) -> int:
    return [getattr(layer, "name", None) for layer in network.layers].index(name)


def _require_towers(network: Network) -> None:
    several = len(_layers_of(network, Conv)) > 1 and len(_layers_of(network, Linear)) > 1
    require(network.towers == 2 and several, f"this network does not have two towers; {HINT}")


# ---- changes of the augmentation, the initialization and the training

OFF = PiecewiseConstant(((0, 0.0),))


def change_augmentation(change: Callable[[Augmentation], Augmentation]) -> RecipeChange:
    """Return the change of a recipe that changes its augmentation."""
    return lambda recipe: replace(recipe, augmentation=change(recipe.augmentation))


def without_jitter(augmentation: Augmentation) -> Augmentation:
    """Switch the color jitter off."""
    return replace(augmentation, color_jitter=OFF)


def mirrored_without_jitter(augmentation: Augmentation) -> Augmentation:
    """Switch mirroring on and the color jitter off."""
    return replace(augmentation, mirror=True, color_jitter=OFF)


def without_mirror_and_jitter(augmentation: Augmentation) -> Augmentation:
    """Switch mirroring and the color jitter off."""
    return replace(augmentation, mirror=False, color_jitter=OFF)


def with_jitter_of(source: Recipe, recipe: Recipe) -> Recipe:
    """Use another recipe's color jitter, in its unit and over the same fraction of the epochs."""
    factor = recipe.training.epochs / source.training.epochs
    augmentation = replace(
        recipe.augmentation,
        color_jitter=source.augmentation.color_jitter.stretched(factor),
        color_jitter_unit=source.augmentation.color_jitter_unit,
        rescale_by_jitter=source.augmentation.rescale_by_jitter,
    )
    return replace(recipe, augmentation=augmentation)


def with_mirror_and_jitter(recipe: Recipe) -> Recipe:
    """Switch on mirroring and color jitter: the recipe's own, or else the 2012 program's."""
    if not recipe.augmentation.color_jitter.largest:
        recipe = with_jitter_of(ORIGINAL, recipe)
    return replace(recipe, augmentation=replace(recipe.augmentation, mirror=True))


def with_2012_init(conv3_to_5_std: float, bias: float, recipe: Recipe) -> Recipe:
    """Initialize as in 2012: std 0.01, except in layers 3 to 5.

    `bias` is that of layers 2, 4, 5 and the hidden linear layers, the others start at 0. The stds
    are meant for inputs in gray levels: where inputs are scaled, the first layer's is divided by
    that scale.
    """
    convs = _layers_of(recipe.network, Conv)
    *hidden, last = _layers_of(recipe.network, Linear)
    require(
        len(convs) == 5,
        f"the 2012 initialization is for five convolutions, this network has {len(convs)}; {HINT}",
    )
    first_std = 0.01 / recipe.augmentation.scale
    stds = (first_std, 0.01, conv3_to_5_std, conv3_to_5_std, conv3_to_5_std)
    biases = (0.0, bias, 0.0, bias, bias)
    layers: list[Layer] = [
        replace(conv, init_std=layer_std, init_bias=layer_bias)
        for conv, layer_std, layer_bias in zip(convs, stds, biases, strict=True)
    ]
    layers += [replace(layer, init_std=0.01, init_bias=bias) for layer in hidden]
    layers.append(replace(last, init_std=0.01, init_bias=0.0))
    return replace(recipe, network=replace_layers(recipe.network, *layers))


def scale_weight_decay(factor: float, recipe: Recipe) -> Recipe:
    """Multiply every weight decay of a recipe."""
    training = recipe.training
    groups = training.param_groups
    require(
        training.weight_decay > 0 or any(group.weight_decay for group in groups),
        f"this recipe has no weight decay; {HINT}",
    )
    scaled = tuple(
        group
        if group.weight_decay is None
        else replace(group, weight_decay=group.weight_decay * factor)
        for group in groups
    )
    weight_decay = training.weight_decay * factor
    return replace(
        recipe, training=replace(training, weight_decay=weight_decay, param_groups=scaled)
    )


def unchanged(recipe: Recipe) -> Recipe:
    """Return the recipe itself."""
    return recipe


# ---- the experiments


BASELINE = Ablation("baseline", unchanged)
COLOR_JITTER_EFFECT = Published("color jitter improves top-1 by over 1 point", "section 4.1", -1.0)
FIVE_NETWORKS = Published(
    "one network 40.7 / 18.2, five 38.1 / 16.4, most of them probably of other layers",
    "table 2",
    -2.6,
)
ENSEMBLE_SIZE = 5  # networks, those of table 2
OVERFITTING = "substantial overfitting without it"


def _without_conv_ablation(name: str) -> Ablation:
    published = Published(
        "about 2 points of top-1 for any one of the middle layers", "section 7", 2.0
    )
    change = change_network(partial(without_conv, name))
    return Ablation(f"without {name}", change, (published,))


RELU_VS_TANH = Experiment(
    "relu-vs-tanh",
    "after how many epochs is the training error down to 25 %?",
    (
        Ablation("relu", change_network(partial(with_activation, RELU))),
        Ablation(
            "tanh",
            change_network(partial(with_activation, TANH)),
            (Published("six times as many as relu, on CIFAR-10", "figure 1", 6.0),),
        ),
        Ablation("sigmoid", change_network(partial(with_activation, SIGMOID))),
    ),
    measure="epochs",
    recipe="figure1",
    quick=QuickSettings(2000, None),
)

NORMALIZATION = Experiment(
    "normalization",
    "what does response normalization bring?",
    (
        BASELINE,
        Ablation(
            "without norms",
            change_network(remove_norms),
            (
                Published("1.4 / 1.2 points; on CIFAR-10 13 % instead of 11 %", "section 3.3", 1.4),
                Published("42.03 / 19.36 instead of 40.66 / 18.21", "run #148", 1.37),
            ),
        ),
    ),
)

OVERLAP = Experiment(
    "overlap",
    "what do overlapping pools bring, and the maximum instead of the mean?",
    (
        BASELINE,
        Ablation(
            "no overlap",
            change_network(without_pool_overlap),
            (
                Published("0.4 / 0.3 points", "section 3.4", 0.4),
                Published("41.06 / 18.51 instead of 40.66 / 18.21", "run #147", 0.4),
            ),
        ),
        Ablation("average pooling", change_network(with_avg_pooling)),
    ),
)

DROPOUT = Experiment(
    "dropout",
    "what does dropout bring, and what does it cost?",
    (
        BASELINE,
        Ablation(
            "without dropout",
            change_network(remove_dropout),
            (Published(f"{OVERFITTING}, but about half the iterations", "section 4.2"),),
        ),
    ),
    convergence=True,
)

AUGMENTATION = Experiment(
    "augmentation",
    "what do crops, mirrors and color jitter bring?",
    (
        Ablation("crops and mirrors", change_augmentation(mirrored_without_jitter)),
        Ablation(
            "center only",
            change_augmentation(without_mirror_and_jitter),
            (Published(OVERFITTING, "section 4.1"),),
            center_only=True,
        ),
        Ablation("crops only", change_augmentation(without_mirror_and_jitter)),
        Ablation("crops, mirrors, color jitter", with_mirror_and_jitter, (COLOR_JITTER_EFFECT,)),
    ),
)

COLOR_JITTER = Experiment(
    "color-jitter",
    "what does color jitter bring, as in the 2012 program and as in the paper's text?",
    (
        Ablation("no color jitter", change_augmentation(without_jitter)),
        Ablation("program's", partial(with_jitter_of, ORIGINAL), (COLOR_JITTER_EFFECT,)),
        Ablation("paper's", partial(with_jitter_of, PAPER), (COLOR_JITTER_EFFECT,)),
    ),
)

TOWERS = Experiment(
    "towers",
    "what do the second tower and the exchange between the two bring?",
    (
        BASELINE,
        Ablation(
            "one tower, half the kernels",
            change_network(half_width),
            (
                Published("1.7 / 1.2 points", "section 3.2", 1.7),
                Published(
                    "39.17 / 18.23 instead of 37.47 / 17.00 on ILSVRC-2010 test",
                    "run #145-half",
                    1.7,
                ),
            ),
        ),
        Ablation(
            "two towers without exchange",
            change_network(without_tower_exchange),
            (Published("41.83 / 19.33 instead of 40.66 / 18.21", "run #150", 1.17),),
        ),
    ),
)

DEPTH = Experiment(
    "depth",
    "what does each convolution bring?",
    (BASELINE, *map(_without_conv_ablation, ("conv2", "conv3", "conv4", "conv5"))),
)

INITIALIZATION = Experiment(
    "initialization",
    "how much depends on the initialization?",
    (
        BASELINE,
        Ablation("program's: 0.01 and 0.03, bias 1", partial(with_2012_init, 0.03, 1.0)),
        Ablation(
            "paper's: 0.01, bias 1",
            partial(with_2012_init, 0.01, 1.0),
            (Published("biases of 1 accelerate the early stages of learning", "section 5"),),
        ),
        Ablation("program's, bias 0", partial(with_2012_init, 0.03, 0.0)),
        Ablation("paper's, bias 0", partial(with_2012_init, 0.01, 0.0)),
    ),
    convergence=True,
)

WEIGHT_DECAY = Experiment(
    "weight-decay",
    "what does weight decay bring?",
    (
        BASELINE,
        Ablation(
            "none",
            partial(scale_weight_decay, 0.0),
            (Published("weight decay lowers the training error, too", "section 5"),),
        ),
        Ablation("0.1 times", partial(scale_weight_decay, 0.1)),
        Ablation("10 times", partial(scale_weight_decay, 10.0)),
    ),
)

ENSEMBLE = Experiment(
    "ensemble",
    "what does averaging several networks bring?",
    (replace(BASELINE, published=(FIVE_NETWORKS,)),),
    measure="ensemble",
    seeds=ENSEMBLE_SIZE,
    quick=QuickSettings(seeds=2),
)

SPARSITY = Experiment(
    "sparsity",
    "how many activations after each relu are zero, and how many units always?",
    (BASELINE,),
    measure="sparsity",
)

EXPERIMENTS = (
    RELU_VS_TANH,
    NORMALIZATION,
    OVERLAP,
    DROPOUT,
    AUGMENTATION,
    COLOR_JITTER,
    TOWERS,
    DEPTH,
    INITIALIZATION,
    WEIGHT_DECAY,
    ENSEMBLE,
    SPARSITY,
)


def get_experiment(name: str) -> Experiment:
    """Return the experiment of a name; UsageError that lists the nearest names if there is none."""
    by_name = {experiment.name: experiment for experiment in EXPERIMENTS}
    if name not in by_name:
        nearest = get_close_matches(name, by_name, n=3) or list(by_name)
        raise UsageError(f"unknown experiment {name}; nearest: {', '.join(nearest)}")
    return by_name[name]
