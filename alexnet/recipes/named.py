"""The named recipes, side by side: the 2012 way to the letter, the paper's text, and today's way.

Each says which run or section its numbers come from. A recipe is looked up by name with `named`; everything else in it can
be changed by `--set`. What `modern` changes against `original`, and what each change brought, is tabled in docs/results.md.
"""

from difflib import get_close_matches

from alexnet.errors import UsageError
from alexnet.recipes.networks import MODERN_NETWORK, ORIGINAL_NETWORK, PAPER_NETWORK
from alexnet.recipes.recipe import Apart, Recipe, Training, Views
from alexnet.recipes.schedules import Line, Plateau, Steps

# Run #145 on ILSVRC-2010 (layers/layer-params-145-2010.cfg): 37.47 / 17.00 % on the test pictures, ten views.
ORIGINAL = Recipe(
    name="original",
    network=ORIGINAL_NETWORK,
    views=Views(
        shared_by=32,  # convdata_jpeg.py: one crop and one mirror for 32 pictures in a row
        mean="image",
        mean_at="centre",  # the centre of the mean image, wherever the crop lies
        noise=Steps(((0, 0.1), (68, 0.0))),  # off for the last 25 epochs
        noise_unit="deviation",  # the program's color_stdevs
        noise_divides=True,  # by 1.1, in training only
        test=10,
    ),
    training=Training(
        epochs=93,
        batch=128,
        rate=Steps(((0, 0.01), (23, 0.001), (51, 1e-4), (78, 1e-5))),
        momentum=0.9,
        decay=5e-4,
        decay_biases=False,
        apart=(
            # twice the weights', cut once; when is not recorded: assumed at 51, for conv1 too, whose weights alone are frozen
            Apart(".bias", Steps(((0, 0.02), (51, 0.002)))),
            Apart("conv1.weight", Steps(((0, 0.01), (23, 0.001), (51, 1e-4), (68, 1e-5), (72, 0.0)))),  # frozen at the end
        ),
        reshuffle=False,  # batch files shuffled once, read in the same order every epoch
    ),
)

# The text: section 4.1 for the views, section 5 for the learning.
PAPER = Recipe(
    name="paper",
    network=PAPER_NETWORK,
    views=Views(
        shared_by=1,
        mean="image",
        mean_at="crop",
        noise=Steps(((0, 0.1),)),
        noise_unit="variance",  # "proportional to the eigenvalues": only meaningful on a scale, taken as white = 1
        test=10,
    ),
    training=Training(
        epochs=90,
        batch=128,
        rate=Plateau(start=0.01, factor=0.1, cuts=3, patience=5, threshold=0.1),
        momentum=0.9,
        decay=5e-4,
        decay_biases=True,  # the update formula knows only one w
        reshuffle=True,
    ),
)

# Today's way with the 2012 layers.
MODERN = Recipe(
    name="modern",
    network=MODERN_NETWORK,
    views=Views(
        mean="colour",
        scale=1 / 64,  # grey levels to about unit deviation, which the Kaiming start expects
        sizes=Steps(((0, 131.0), (14.4, 163.0), (16.4, 227.0))),  # sides that make 3 x 3, 4 x 4 and 6 x 6 of pool3
        test=10,
    ),
    training=Training(
        epochs=18,
        batch=64,
        rate=Line(((0, 0.0015), (1, 0.015), (18, 0.0))),
        momentum=0.9,
        decay=5e-4,
        smoothing=0.1,
    ),
)

RECIPES = (ORIGINAL, PAPER, MODERN)


def named(name: str) -> Recipe:
    """The recipe of that name; an unknown one is a UsageError that lists the nearest."""
    names = [recipe.name for recipe in RECIPES]
    if name not in names:
        near = get_close_matches(name, names, n=3) or names
        raise UsageError(f"unknown recipe {name!r}; nearest: {', '.join(near)}")
    return RECIPES[names.index(name)]
