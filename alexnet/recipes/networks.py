"""The networks of 2012, written out: the program's, the paper's, today's use of the same layers.

Shapes at the lines' ends are channels x height x width for the network's own input. Sources: the
layer file of run #145 in the published 2012 source code (layers/layers-145.cfg) for ORIGINAL, the
paper's text for PAPER. Where the two differ, the line says so; the ledger of all differences is in
docs/paper.md.
"""

from alexnet.recipes.layers import (
    KAIMING,
    NUM_CLASSES,
    RELU,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
)
from alexnet.recipes.recipe import Network

# What made the paper's 37.5 %: run #145.
ORIGINAL_NETWORK = Network(
    input=(3, 224, 224),
    towers=2,
    # 224 -> 55: the last windows run 3 pixels past the right and bottom edge, into zeros
    conv_ceil_mode=True,
    pool_ceil_mode=True,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=0.01),  # 96 x 55 x 55
        # sees negative values: the relu comes after the pool; the program divides alpha by n
        LocalResponseNorm("norm1", n=5, k=2, alpha=1e-4 / 5, beta=0.75, scope="tower"),
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        RELU,
        Conv("conv2", 256, 5, padding=2, groups=2, init_std=0.01, init_bias=1),  # 256 x 27 x 27
        RELU,
        LocalResponseNorm("norm2", n=5, k=2, alpha=1e-4 / 5, beta=0.75, scope="tower"),
        # in the program, not in the text
        SpatialResponseNorm("spatial2", n=5, k=1, alpha=1e-3 / 25, beta=0.75),
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, padding=1, init_std=0.03),  # 384 x 13 x 13, sees both towers
        RELU,
        Conv("conv4", 384, 3, padding=1, groups=2, init_std=0.03, init_bias=1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, groups=2, init_std=0.03, init_bias=1),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        RELU,
        Linear("fc6", 4096, init_std=0.01, init_bias=1),  # sees both towers, as do fc7 and fc8
        RELU,
        Dropout(0.5, rescale="test"),
        Linear("fc7", 4096, init_std=0.01, init_bias=1),
        RELU,
        Dropout(0.5, rescale="test"),
        Linear("fc8", NUM_CLASSES, init_std=0.01),
    ),
)

# What the text says.
PAPER_NETWORK = Network(
    # the text's 224 does not give the 55 of its own figure 2; 227 does, without padding
    input=(3, 227, 227),
    towers=2,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=0.01),  # 96 x 55 x 55
        RELU,
        # section 3.3: alpha per term, over all N kernels of the layer
        LocalResponseNorm("norm1", n=5, k=2, alpha=1e-4, beta=0.75),
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Conv("conv2", 256, 5, padding=2, groups=2, init_std=0.01, init_bias=1),  # 256 x 27 x 27
        RELU,
        LocalResponseNorm("norm2", n=5, k=2, alpha=1e-4, beta=0.75),
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        # section 5: standard deviation 0.01 in every layer
        Conv("conv3", 384, 3, padding=1, init_std=0.01),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 384, 3, padding=1, groups=2, init_std=0.01, init_bias=1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, groups=2, init_std=0.01, init_bias=1),  # 256 x 13 x 13
        RELU,
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Linear("fc6", 4096, init_std=0.01, init_bias=1),
        RELU,
        Dropout(0.5, rescale="test"),
        Linear("fc7", 4096, init_std=0.01, init_bias=1),
        RELU,
        Dropout(0.5, rescale="test"),
        Linear("fc8", NUM_CLASSES, init_std=0.01),
    ),
)

# The 2012 layers in the order pool, relu, norm of the runs #112 to #120, which costs a quarter and
# loses 0.1 points. k = 1, as in Caffe's: on inputs of unit deviation k = 2 would do little but
# shrink all values to 0.59, twice, and slow the learning down.
MODERN_NETWORK = Network(
    input=(3, 227, 227),
    towers=2,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=KAIMING),  # 96 x 55 x 55
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        RELU,
        LocalResponseNorm("norm1", n=5, k=1, alpha=1e-4, beta=0.75, scope="tower"),
        Conv("conv2", 256, 5, padding=2, groups=2, init_std=KAIMING),  # 256 x 27 x 27
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        RELU,
        LocalResponseNorm("norm2", n=5, k=1, alpha=1e-4, beta=0.75, scope="tower"),
        Conv("conv3", 384, 3, padding=1, init_std=KAIMING),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 384, 3, padding=1, groups=2, init_std=KAIMING),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, groups=2, init_std=KAIMING),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        RELU,
        AdaptiveAvgPool(),  # 256 x 6 x 6, also while images are still small
        Linear("fc6", 4096, init_std=0.01),  # the initialization of 2012
        RELU,
        Dropout(0.2, rescale="train"),
        Linear("fc7", 4096, init_std=0.01),
        RELU,
        Dropout(0.2, rescale="train"),
        Linear("fc8", NUM_CLASSES, init_std=0.01),
    ),
)
