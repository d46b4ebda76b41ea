"""What the experiments compare: each one a value, its arms a change of a base recipe beside what the paper or its program found.

The changes are functions of a recipe, or of its network, that look for layers by what they are, so the same comparison can be
made on `modern`, `original`, `paper` and others; one that has nothing to change is a UsageError. The first arm of an experiment
is what the others are compared with. Figures are errors in points of percent, top-1 then top-5, with their source: sections are
the paper's, runs (#145) those of the published 2012 program on ILSVRC-2012 val with ten views where nothing else is said. How the
arms are trained and scored is in `experiments`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Literal, TypeVar

from alexnet.errors import UsageError, must_be
from alexnet.network.geometry import plan
from alexnet.recipes.layers import (
    RELU,
    SIGMOID,
    TANH,
    Activation,
    Conv,
    Dropout,
    Fit,
    Full,
    Layer,
    Norm,
    Pool,
    SpatialNorm,
    Weighted,
)
from alexnet.recipes.named import ORIGINAL, PAPER
from alexnet.recipes.networks import but
from alexnet.recipes.recipe import Network, Recipe, Views
from alexnet.recipes.schedules import Steps

Kind = TypeVar("Kind", bound=Layer)
Change = Callable[[Recipe], Recipe]
ANOTHER = "choose another --recipe"


@dataclass(frozen=True)
class Published:
    """What was found in 2012, in one sentence with its source; `against`: the first arm, in the unit of the experiment."""

    says: str
    source: str
    against: float | None = None


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a change of the base recipe; `middles`: it learns from the middle of each picture alone."""

    label: str
    change: Change
    published: tuple[Published, ...] = ()
    middles: bool = False


@dataclass(frozen=True)
class Quick:
    """The small version: train pictures at most, epochs (None: the recipe's own), and seeds."""

    pictures: int = 1000
    epochs: int | None = 3
    seeds: int = 1


@dataclass(frozen=True)
class Experiment:
    """A question, the arms that answer it, and what is read from their runs.

    `reads`: the `scores` on a split; how soon a training error is `reached`; the scores of an `ensemble` of the runs; or the
    `sparsity` of their stations. `paced`: also how many epochs each arm needs until an error that all of them come to.
    """

    name: str
    asks: str
    arms: tuple[Arm, ...]
    reads: Literal["scores", "reached", "ensemble", "sparsity"] = "scores"
    recipe: str = "modern"
    seeds: int = 3
    paced: bool = False
    quick: Quick = Quick()


# ---- changes of a network


def of_network(change: Callable[[Network], Network]) -> Change:
    """The same recipe with its network changed."""
    return lambda recipe: replace(recipe, network=change(recipe.network))


def without(network: Network, *kinds: type[Layer]) -> Network:
    """The network without every layer of these kinds."""
    left = tuple(layer for layer in network.layers if not isinstance(layer, kinds))
    must_be(len(left) < len(network.layers), f"this net has no {kinds[0].__name__.lower()} to leave out; {ANOTHER}")
    return replace(network, layers=left)


def without_overlap(network: Network) -> Network:
    """Pooling windows no wider than their stride. Where a map would then grow, the convolution before the pool is padded by a
    pixel less, as in run #147."""
    overlapping = [layer for layer in network.layers if isinstance(layer, Pool) and layer.size > layer.stride]
    must_be(bool(overlapping), f"no pooling windows of this net overlap; {ANOTHER}")
    sides = _sides(network)
    for pool in overlapping:
        network = but(network, replace(pool, size=pool.stride))
        before = [layer for layer in network.layers[: _place(network, pool.name)] if isinstance(layer, Conv)]
        if _sides(network)[pool.name] > sides[pool.name] and before and before[-1].pad:
            network = but(network, replace(before[-1], pad=before[-1].pad - 1))
    return network


def averaging(network: Network) -> Network:
    """Every pool takes the mean of its window. A relu right behind a pool moves before it: with the maximum the two can change
    places, with the mean they cannot, and the paper's order is relu, pool."""
    layers = list(network.layers)
    pools = [(place, layer) for place, layer in enumerate(layers) if isinstance(layer, Pool) and layer.takes == "max"]
    must_be(bool(pools), f"no pool of this net takes the maximum; {ANOTHER}")
    for place, pool in pools:
        layers[place] = replace(pool, takes="mean")
        if layers[place + 1] == RELU:
            layers[place : place + 2] = [RELU, layers[place]]
    return replace(network, layers=tuple(layers))


def halved(network: Network) -> Network:
    """One tower with half the kernels, those of the last convolution excepted: the paper's one-GPU net, run #145-half."""
    _must_have_towers(network)
    *narrowed, last = _of_kind(network, Conv)
    halves = (replace(conv, maps=conv.maps // 2, groups=1) for conv in narrowed)
    return but(replace(network, towers=1), *halves, replace(last, groups=1))


def separated(network: Network) -> Network:
    """Towers that meet in the last layer only. As in run #150, the second convolution is a quarter wider and the first full
    layer twice as wide, which makes up for most of the weights between the towers."""
    _must_have_towers(network)
    (_, second, *others), (first, *hidden, _) = _of_kind(network, Conv), _of_kind(network, Full)
    apart: tuple[Conv | Full, ...] = (
        replace(second, maps=second.maps * 5 // 4),
        *others,
        replace(first, units=2 * first.units),
        *hidden,
    )
    return but(network, *(replace(layer, groups=network.towers) for layer in apart))


def without_convolution(name: str, network: Network) -> Network:
    """The network less a convolution, its relu and its norms; its pool stays, so that the sizes do. If it saw both towers, the
    convolution behind it does so in its place. What follows the last one sees the maps of the one before, however many."""
    names = [conv.name for conv in _of_kind(network, Conv)]
    must_be(name in names[1:], f"this net has no {name} that could be left out; {ANOTHER}")
    place = _place(network, name)
    end = next(at for at in range(place + 1, len(network.layers)) if isinstance(network.layers[at], Weighted))
    gone, after = network.layers[place], network.layers[end]
    if isinstance(gone, Conv) and isinstance(after, Conv):
        after = replace(after, groups=min(gone.groups, after.groups))
    stays = tuple(layer for layer in network.layers[place:end] if isinstance(layer, Pool | Fit))
    return replace(network, layers=(*network.layers[:place], *stays, after, *network.layers[end + 1 :]))


def with_function(function: Activation, network: Network) -> Network:
    """The network with that function in the place of every activation."""
    return replace(network, layers=tuple(function if isinstance(layer, Activation) else layer for layer in network.layers))


def _sides(network: Network) -> dict[str, int]:
    """The side of each pool's maps."""
    return {step.layer.name: step.gives[1] for step in plan(network, classes=2) if isinstance(step.layer, Pool)}


def _of_kind(network: Network, kind: type[Kind]) -> list[Kind]:
    return [layer for layer in network.layers if isinstance(layer, kind)]


def _place(network: Network, name: str) -> int:
    return [getattr(layer, "name", None) for layer in network.layers].index(name)


def _must_have_towers(network: Network) -> None:
    wide, full = len(_of_kind(network, Conv)), len(_of_kind(network, Full))
    must_be(network.towers == 2 and wide > 1 and full > 1, f"this net is not made of two towers; {ANOTHER}")


# ---- changes of what is seen, of the start, of the learning


OFF = Steps(((0, 0.0),))


def seeing(change: Callable[[Views], Views]) -> Change:
    """The same recipe with its views changed."""
    return lambda recipe: replace(recipe, views=change(recipe.views))


def with_noise_of(source: Recipe, recipe: Recipe) -> Recipe:
    """The recipe with another's colour noise, in its unit and over as large a part of the epochs."""
    noise = source.views.noise.stretched(recipe.training.epochs / source.training.epochs)
    unit, divides = source.views.noise_unit, source.views.noise_divides
    return replace(recipe, views=replace(recipe.views, noise=noise, noise_unit=unit, noise_divides=divides))


def with_mirrors_and_noise(recipe: Recipe) -> Recipe:
    """Mirrors, and the recipe's own colour noise or, where it has none, the program's."""
    noisy = recipe if recipe.views.noise.largest else with_noise_of(ORIGINAL, recipe)
    return replace(noisy, views=replace(noisy.views, mirror=True))


def started(middle: float, bias: float, recipe: Recipe) -> Recipe:
    """The recipe started as in 2012: deviation .01, `middle` in layers 3 to 5; `bias` in layers 2, 4, 5 and the hidden full ones.

    The deviations are meant for grey levels: where views are scaled, the first layer's is divided by that scale.
    """
    convs, (*hidden, last) = _of_kind(recipe.network, Conv), _of_kind(recipe.network, Full)
    must_be(len(convs) == 5, f"the start of 2012 is one of five convolutions, and this net has {len(convs)}; {ANOTHER}")
    deviations = 0.01 / recipe.views.scale, 0.01, middle, middle, middle
    biases = 0.0, bias, 0.0, bias, bias
    layers = (replace(conv, std=std, bias=b) for conv, std, b in zip(convs, deviations, biases, strict=True))
    full = *(replace(layer, std=0.01, bias=bias) for layer in hidden), replace(last, std=0.01, bias=0.0)
    return replace(recipe, network=but(recipe.network, *layers, *full))


def decaying(factor: float, recipe: Recipe) -> Recipe:
    """The recipe with every weight decay multiplied."""
    training = recipe.training
    apart = tuple(replace(one, decay=one.decay and one.decay * factor) for one in training.apart)
    must_be(training.decay > 0 or any(one.decay for one in training.apart), f"this recipe has no weight decay; {ANOTHER}")
    return replace(recipe, training=replace(training, decay=training.decay * factor, apart=apart))


# ---- the experiments


AS_IS = Arm("as it is", lambda recipe: recipe)
CROPS_AND_MIRRORS = Arm("crops and mirrors", seeing(lambda views: replace(views, mirror=True, noise=OFF)))
NO_NOISE = Arm("no colour noise", seeing(lambda views: replace(views, noise=OFF)))
OVER_ONE_POINT = Published("colour noise brings over 1 point of top-1", "section 4.1", -1.0)
FIVE_NETS = Published("one net 40.7 / 18.2, five 38.1 / 16.4, most of them probably of other layers", "table 2", -2.6)
ENSEMBLE = 5  # nets, those of table 2
OVERFITS = "substantial overfitting without it"


def _without_layer(name: str) -> Arm:
    found = Published("about 2 points of top-1 for any one of the middle layers", "section 7", 2.0)
    return Arm(f"without {name}", of_network(partial(without_convolution, name)), (found,))


EXPERIMENTS = (
    Experiment(
        "relu-vs-tanh",
        "after how many epochs is the training error down to 25 %?",
        (
            Arm("relu", of_network(partial(with_function, RELU))),
            Arm(
                "tanh",
                of_network(partial(with_function, TANH)),
                (Published("six times as long as relu, on CIFAR-10", "figure 1", 6.0),),
            ),
            Arm("sigmoid", of_network(partial(with_function, SIGMOID))),
        ),
        reads="reached",
        recipe="figure1",
        quick=Quick(2000, None),
    ),
    Experiment(
        "normalisation",
        "what does response normalisation bring?",
        (
            AS_IS,
            Arm(
                "without norms",
                of_network(lambda network: without(network, Norm, SpatialNorm)),
                (
                    Published("1.4 / 1.2 points; on CIFAR-10 13 % instead of 11 %", "section 3.3", 1.4),
                    Published("42.03 / 19.36 against 40.66 / 18.21", "run #148", 1.37),
                ),
            ),
        ),
    ),
    Experiment(
        "overlap",
        "what do overlapping pools bring, and the maximum instead of the mean?",
        (
            AS_IS,
            Arm(
                "no overlap",
                of_network(without_overlap),
                (
                    Published("0.4 / 0.3 points", "section 3.4", 0.4),
                    Published("41.06 / 18.51 against 40.66 / 18.21", "run #147", 0.4),
                ),
            ),
            Arm("average pooling", of_network(averaging)),
        ),
    ),
    Experiment(
        "dropout",
        "what does dropout bring, and what does it cost?",
        (
            AS_IS,
            Arm(
                "without dropout",
                of_network(lambda network: without(network, Dropout)),
                (Published(f"{OVERFITS}, but about half the iterations", "section 4.2"),),
            ),
        ),
        paced=True,
    ),
    Experiment(
        "augmentation",
        "what do crops, mirrors and colour noise bring?",
        (
            CROPS_AND_MIRRORS,
            Arm(
                "the centre alone",
                seeing(lambda views: replace(views, mirror=False, noise=OFF)),
                (Published(OVERFITS, "section 4.1"),),
                middles=True,
            ),
            Arm("crops alone", seeing(lambda views: replace(views, mirror=False, noise=OFF))),
            Arm("crops, mirrors, colour noise", with_mirrors_and_noise, (OVER_ONE_POINT,)),
        ),
    ),
    Experiment(
        "colour-noise",
        "what does the colour noise bring, as the program and as the text has it?",
        (
            NO_NOISE,
            Arm("the program's", partial(with_noise_of, ORIGINAL), (OVER_ONE_POINT,)),
            Arm("the text's", partial(with_noise_of, PAPER), (OVER_ONE_POINT,)),
        ),
    ),
    Experiment(
        "towers",
        "what do the second tower and the exchange between the two bring?",
        (
            AS_IS,
            Arm(
                "one tower, half the kernels",
                of_network(halved),
                (
                    Published("1.7 / 1.2 points", "section 3.2", 1.7),
                    Published("39.17 / 18.23 against 37.47 / 17.00 on ILSVRC-2010 test", "run #145-half", 1.7),
                ),
            ),
            Arm(
                "two towers without exchange",
                of_network(separated),
                (Published("41.83 / 19.33 against 40.66 / 18.21", "run #150", 1.17),),
            ),
        ),
    ),
    Experiment(
        "depth",
        "what does each convolution bring?",
        (AS_IS, *map(_without_layer, ("conv2", "conv3", "conv4", "conv5"))),
    ),
    Experiment(
        "initialisation",
        "how much depends on the start?",
        (
            AS_IS,
            Arm("the program's: .01 and .03, bias 1", partial(started, 0.03, 1.0)),
            Arm(
                "the text's: .01, bias 1",
                partial(started, 0.01, 1.0),
                (Published("biases of 1 make the early stages of learning faster", "section 5"),),
            ),
            Arm("the program's, bias 0", partial(started, 0.03, 0.0)),
            Arm("the text's, bias 0", partial(started, 0.01, 0.0)),
        ),
        paced=True,
    ),
    Experiment(
        "weight-decay",
        "what does weight decay bring?",
        (
            AS_IS,
            Arm("none", partial(decaying, 0.0), (Published("decay lowers the training error, too", "section 5"),)),
            Arm("a tenth of it", partial(decaying, 0.1)),
            Arm("ten times as much", partial(decaying, 10.0)),
        ),
    ),
    Experiment(
        "ensemble",
        "what does averaging several nets bring?",
        (replace(AS_IS, published=(FIVE_NETS,)),),
        reads="ensemble",
        seeds=ENSEMBLE,
        quick=Quick(seeds=2),
    ),
    Experiment("sparsity", "how many values behind each relu are zero, and how many units always?", (AS_IS,), reads="sparsity"),
)


def experiment(name: str) -> Experiment:
    """The experiment of that name; an unknown one is a UsageError that lists the nearest."""
    names = [one.name for one in EXPERIMENTS]
    if name not in names:
        raise UsageError(f"unknown experiment {name!r}; nearest: {', '.join(get_close_matches(name, names, n=3) or names)}")
    return EXPERIMENTS[names.index(name)]
