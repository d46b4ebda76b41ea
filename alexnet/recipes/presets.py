"""The recipes, next to each other: the 2012 way to the letter, the paper's text, and today's way.

Each says which run or section its numbers come from. `get_recipe` looks one up by name; everything
else in it can be changed by `--set`. What `modern` changes against `original`, and what each change
brought, is tabled in docs/results.md.
"""

from dataclasses import replace
from difflib import get_close_matches

from alexnet.core.errors import UsageError
from alexnet.recipes.ablation_nets import (
    HALF_NETWORK,
    NO_NORM_NETWORK,
    NO_OVERLAP_NETWORK,
    POOL_NORM_NETWORK,
    SEPARATE_NETWORK,
    SINGLE_NETWORK,
    SINGLE_PRENORM_NETWORK,
    SIX_NETWORK,
)
from alexnet.recipes.networks import MODERN_NETWORK, ORIGINAL_NETWORK, PAPER_NETWORK
from alexnet.recipes.other_nets import (
    CAFFE_NETWORK,
    CAFFENET_NETWORK,
    CIFAR_11_NETWORK,
    CIFAR_18_NETWORK,
    FASHION_NETWORK,
    FIGURE1_NETWORK,
    FIGURE1_SIGMOID_NETWORK,
    FIGURE1_TANH_NETWORK,
    OWT_NETWORK,
)
from alexnet.recipes.recipe import Augmentation, ParamGroup, Recipe, Training
from alexnet.recipes.schedules import (
    PiecewiseConstant,
    PiecewiseLinear,
    ReduceOnPlateau,
    exponential_steps,
)

# Run #145 on ILSVRC-2010 (layers/layer-params-145-2010.cfg): 37.47 / 17.00 % on the test images,
# ten crops.
ORIGINAL = Recipe(
    name="original",
    network=ORIGINAL_NETWORK,
    augmentation=Augmentation(
        crop_group_size=32,  # convdata_jpeg.py: one crop and one mirror for 32 images in a row
        mean="image",
        mean_at="center",  # of the mean image, wherever the crop lies
        color_jitter=PiecewiseConstant(((0, 0.1), (68, 0.0))),  # off for the last 25 epochs
        color_jitter_unit="deviation",  # the program's color_stdevs
        rescale_by_jitter=True,  # by 1.1, in training only
        test_crops=10,
    ),
    training=Training(
        epochs=93,
        batch_size=128,
        lr=PiecewiseConstant(((0, 0.01), (23, 0.001), (51, 1e-4), (78, 1e-5))),
        momentum=0.9,
        weight_decay=5e-4,
        decay_biases=False,
        param_groups=(
            # twice the weights', reduced once; when is not recorded: assumed at 51
            ParamGroup(".bias", PiecewiseConstant(((0, 0.02), (51, 0.002)))),
            # frozen at the end
            ParamGroup(
                "conv1.weight",
                PiecewiseConstant(((0, 0.01), (23, 0.001), (51, 1e-4), (68, 1e-5), (72, 0.0))),
            ),
            # frozen at the end: assumed together with the weights
            ParamGroup("conv1.bias", PiecewiseConstant(((0, 0.02), (51, 0.002), (72, 0.0)))),
        ),
        reshuffle=False,  # batch files shuffled once, read in the same order every epoch
    ),
)

# The text: section 4.1 for the augmentation, section 5 for the training.
PAPER = Recipe(
    name="paper",
    network=PAPER_NETWORK,
    augmentation=Augmentation(
        crop_group_size=1,
        mean="image",
        mean_at="crop",
        color_jitter=PiecewiseConstant(((0, 0.1),)),
        # "proportional to the eigenvalues": only meaningful on a scale, taken as white = 1
        color_jitter_unit="variance",
        test_crops=10,
    ),
    training=Training(
        epochs=90,
        batch_size=128,
        lr=ReduceOnPlateau(
            initial_lr=0.01, factor=0.1, max_reductions=3, patience=5, threshold=0.1
        ),
        momentum=0.9,
        weight_decay=5e-4,
        decay_biases=True,  # the update formula knows only one w
        reshuffle=True,
    ),
)

# Today's way to train the 2012 layers.
MODERN = Recipe(
    name="modern",
    network=MODERN_NETWORK,
    augmentation=Augmentation(
        mean="color",
        scale=1 / 64,  # gray levels to about unit deviation, which Kaiming's weights expect
        # sides that make pool3 3 x 3, 4 x 4 and 6 x 6
        resolution_schedule=PiecewiseConstant(((0, 131.0), (14.4, 163.0), (16.4, 227.0))),
        test_crops=10,
    ),
    training=Training(
        epochs=18,
        batch_size=64,
        lr=PiecewiseLinear(((0, 0.0015), (1, 0.015), (18, 0.0))),
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.1,
    ),
)

# ---- the program's other runs

# The same network on ILSVRC-2012: 40.66 / 18.21 % on its val images (layer-params-145.cfg); biases
# kept their learning rate to the end.
ORIGINAL_2012 = Recipe(
    name="original-2012",
    network=ORIGINAL_NETWORK,
    augmentation=replace(
        ORIGINAL.augmentation, color_jitter=PiecewiseConstant(((0, 0.1), (67, 0.0)))
    ),
    training=replace(
        ORIGINAL.training,
        epochs=91,
        lr=PiecewiseConstant(((0, 0.01), (25, 0.001), (51, 1e-4), (79, 1e-5))),
        param_groups=(
            ParamGroup(".bias", PiecewiseConstant(((0, 0.02),))),
            ParamGroup(
                "conv1.weight",
                PiecewiseConstant(((0, 0.01), (25, 0.001), (51, 1e-4), (67, 1e-5), (72, 0.0))),
            ),
            ParamGroup("conv1.bias", PiecewiseConstant(((0, 0.02), (72, 0.0)))),
        ),
    ),
)
# #145's network with the schedules of run #170 (40.53 / 18.05; its own network is that of #153):
# weights over four levels, a factor of 250 in all, biases over two; noise off at 68, conv1's
# weights frozen from 74. Its length is not recorded: 90 epochs, as in cuda-convnet2.
ORIGINAL_DEXP = replace(
    ORIGINAL_2012,
    name="original-dexp",
    augmentation=replace(
        ORIGINAL.augmentation, color_jitter=PiecewiseConstant(((0, 0.1), (68, 0.0)))
    ),
    training=replace(
        ORIGINAL.training,
        epochs=90,
        lr=exponential_steps(0.01, 0.00004, levels=4, epochs=90),
        param_groups=(
            ParamGroup(".bias", exponential_steps(0.02, 0.002, levels=2, epochs=90)),
            ParamGroup(
                "conv1.weight",
                PiecewiseConstant((*exponential_steps(0.01, 0.00004, 4, 90).points, (74, 0.0))),
            ),
        ),
    ),
)
# Run #148: 42.03 / 19.36
NO_NORM = replace(ORIGINAL_2012, name="no-norm", network=NO_NORM_NETWORK)
# Run #147: 41.06 / 18.51
NO_OVERLAP = replace(ORIGINAL_2012, name="no-overlap", network=NO_OVERLAP_NETWORK)
# Run #150: 41.83 / 19.33
SEPARATE = replace(ORIGINAL_2012, name="separate", network=SEPARATE_NETWORK)
# Run #145-half, ILSVRC-2010: 39.17 / 18.23
HALF = replace(ORIGINAL, name="half", network=HALF_NETWORK)
# The "1 CNN*" (38.99 / 16.62) was trained on the Fall 2011 release first, then with --init-from and
# a new head.
SIX = replace(ORIGINAL_2012, name="six", network=SIX_NETWORK)

# ---- the reference texts' readings of the paper, trained as the paper's text says

SINGLE = replace(PAPER, name="single", network=SINGLE_NETWORK)
SINGLE_PRENORM = replace(PAPER, name="single-prenorm", network=SINGLE_PRENORM_NETWORK)
POOL_NORM = replace(PAPER, name="pool-norm", network=POOL_NORM_NETWORK)

# ---- other networks of the same name

# Caffe's solver: batches of 256, 0.01 divided by 10 every 100,000 of 450,000 steps, which are 20 of
# 90 epochs of ImageNet.
CAFFE = Recipe(
    name="caffe",
    network=CAFFE_NETWORK,
    augmentation=Augmentation(mean="image", mean_at="crop", test_crops=1),
    training=Training(
        epochs=90,
        batch_size=256,
        lr=PiecewiseConstant(((0, 0.01), (20, 0.001), (40, 1e-4), (60, 1e-5), (80, 1e-6))),
        bias_lr_mult=2,
    ),
)
CAFFENET = replace(CAFFE, name="caffenet", network=CAFFENET_NETWORK)

# torchvision's reference: 0.01 divided by 10 every 30 epochs. Its random resized crop is none of
# ours: random crops instead.
OWT = Recipe(
    name="owt",
    network=OWT_NETWORK,
    # its three standard deviations are near 58 gray levels
    augmentation=Augmentation(mean="color", scale=1 / 58, test_crops=1),
    training=Training(
        epochs=90,
        batch_size=256,
        lr=PiecewiseConstant(((0, 0.01), (30, 0.001), (60, 1e-4))),
        weight_decay=1e-4,
        decay_biases=True,
    ),
)

# The reference text gives a network and no training: plain SGD is our choice.
FASHION = Recipe(
    name="fashion",
    network=FASHION_NETWORK,
    augmentation=Augmentation(mirror=False, mean="color", scale=1 / 64, test_crops=1),
    training=Training(epochs=20, batch_size=128, lr=PiecewiseLinear(((0, 0.01), (20, 0.0)))),
)

# ---- CIFAR-10

# layer-params-18pct.cfg: 0.001 for 120 epochs, a tenth for 10, a hundredth for 10 (the end is
# ours); the last layer's weight decay is 1.
CIFAR_18 = Recipe(
    name="cifar-18pct",
    network=CIFAR_18_NETWORK,
    augmentation=Augmentation(mirror=False, mean="image", mean_at="center", test_crops=1),
    training=Training(
        epochs=140,
        batch_size=128,
        lr=PiecewiseConstant(((0, 0.001), (120, 1e-4), (130, 1e-5))),
        weight_decay=0.004,
        bias_lr_mult=2,
        param_groups=(ParamGroup("fc10.weight", weight_decay=1.0),),
        reshuffle=False,
    ),
)

# layer-params-cifar10-11pct.cfg: about 350 epochs on four fifths, 150 on all, then 10 at each
# tenth; here on all throughout.
CIFAR_11 = Recipe(
    name="cifar-11pct",
    network=CIFAR_11_NETWORK,
    augmentation=Augmentation(mean="image", mean_at="center", test_crops=9),
    training=Training(
        epochs=520,
        batch_size=128,
        lr=PiecewiseConstant(((0, 0.001), (500, 1e-4), (510, 1e-5))),
        weight_decay=0.0,
        bias_lr_mult=2,
        param_groups=(
            ParamGroup("local3.weight", weight_decay=0.004),
            ParamGroup("local4.weight", weight_decay=0.004),
            ParamGroup("fc10.weight", weight_decay=0.01),
        ),
        reshuffle=False,
    ),
)

# Figure 1: no regularization, a learning rate chosen for each activation: ours are from short
# trials, to be overruled by --lr.
FIGURE1 = Recipe(
    name="figure1",
    network=FIGURE1_NETWORK,
    augmentation=Augmentation(
        mirror=False, mean="image", mean_at="center", scale=1 / 64, test_crops=1
    ),
    training=Training(
        epochs=40, batch_size=128, lr=PiecewiseConstant(((0, 0.01),)), weight_decay=0.0
    ),
)
FIGURE1_TANH = replace(FIGURE1, name="figure1-tanh", network=FIGURE1_TANH_NETWORK)
FIGURE1_SIGMOID = replace(FIGURE1, name="figure1-sigmoid", network=FIGURE1_SIGMOID_NETWORK)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        ORIGINAL,
        ORIGINAL_2012,
        ORIGINAL_DEXP,
        PAPER,
        MODERN,
        NO_NORM,
        NO_OVERLAP,
        HALF,
        SEPARATE,
        SIX,
        SINGLE,
        SINGLE_PRENORM,
        POOL_NORM,
        CAFFE,
        CAFFENET,
        OWT,
        FASHION,
        CIFAR_18,
        CIFAR_11,
        FIGURE1,
        FIGURE1_TANH,
        FIGURE1_SIGMOID,
    )
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name; an unknown one is a UsageError that lists the nearest."""
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3) or list(RECIPES)
        raise UsageError(f"unknown recipe {name!r}; nearest: {', '.join(near)}")
    return RECIPES[name]
