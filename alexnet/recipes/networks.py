"""The networks, written out: the program's, the paper's, and today's reading of the same layers.

Shapes beside the lines are channels x height x width for the network's own input. Sources: the layer file of run #145 in the
published 2012 source code (layers/layers-145.cfg) for ORIGINAL, the paper's text for PAPER. Where the two differ, the line
says so; the ledger of all differences is in docs/paper.md.
"""

from alexnet.recipes.layers import CLASSES, KAIMING, Conv, Dropout, Fit, Full, Norm, Pool, Relu, SpatialNorm
from alexnet.recipes.recipe import Network

# What made the paper's 37.5 %: run #145.
ORIGINAL_NETWORK = Network(
    input=(3, 224, 224),
    towers=2,
    round_conv="up",  # 224 -> 55: the last windows run 3 pixels past the right and bottom edge, where zeros stand
    round_pool="up",
    layers=(
        Conv("conv1", 96, 11, stride=4, std=0.01),  # 96 x 55 x 55
        Norm("norm1", n=5, k=2, alpha=1e-4 / 5, beta=0.75, within="tower"),  # sees negative values: the relu comes after the pool
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Relu(),
        Conv("conv2", 256, 5, pad=2, groups=2, std=0.01, bias=1),  # 256 x 27 x 27
        Relu(),
        Norm("norm2", n=5, k=2, alpha=1e-4 / 5, beta=0.75, within="tower"),  # the program divides alpha by n
        SpatialNorm("spatial2", n=5, k=1, alpha=1e-3 / 25, beta=0.75),  # in the program, not in the text
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, pad=1, std=0.03),  # 384 x 13 x 13, sees both towers
        Relu(),
        Conv("conv4", 384, 3, pad=1, groups=2, std=0.03, bias=1),  # 384 x 13 x 13
        Relu(),
        Conv("conv5", 256, 3, pad=1, groups=2, std=0.03, bias=1),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Relu(),
        Full("fc6", 4096, std=0.01, bias=1),  # sees both towers, as do fc7 and fc8
        Relu(),
        Dropout(0.5, rescale="test"),
        Full("fc7", 4096, std=0.01, bias=1),
        Relu(),
        Dropout(0.5, rescale="test"),
        Full("fc8", CLASSES, std=0.01),
    ),
)

# What the text says.
PAPER_NETWORK = Network(
    input=(3, 227, 227),  # the text's 224 does not give the 55 of its own figure 2; 227 does, without padding
    towers=2,
    layers=(
        Conv("conv1", 96, 11, stride=4, std=0.01),  # 96 x 55 x 55
        Relu(),
        Norm("norm1", n=5, k=2, alpha=1e-4, beta=0.75),  # section 3.3: alpha per term, over all N kernels of the layer
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Conv("conv2", 256, 5, pad=2, groups=2, std=0.01, bias=1),  # 256 x 27 x 27
        Relu(),
        Norm("norm2", n=5, k=2, alpha=1e-4, beta=0.75),
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, pad=1, std=0.01),  # 384 x 13 x 13; section 5: deviation .01 in every layer
        Relu(),
        Conv("conv4", 384, 3, pad=1, groups=2, std=0.01, bias=1),  # 384 x 13 x 13
        Relu(),
        Conv("conv5", 256, 3, pad=1, groups=2, std=0.01, bias=1),  # 256 x 13 x 13
        Relu(),
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Full("fc6", 4096, std=0.01, bias=1),
        Relu(),
        Dropout(0.5, rescale="test"),
        Full("fc7", 4096, std=0.01, bias=1),
        Relu(),
        Dropout(0.5, rescale="test"),
        Full("fc8", CLASSES, std=0.01),
    ),
)

# The 2012 layers in the order pool, relu, norm of the runs #112 to #120, which costs a quarter and loses .1 points.
MODERN_NETWORK = Network(
    input=(3, 227, 227),
    towers=2,
    layers=(
        Conv("conv1", 96, 11, stride=4, std=KAIMING),  # 96 x 55 x 55
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Relu(),
        Norm("norm1", n=5, k=2, alpha=1e-4, beta=0.75, within="tower"),
        Conv("conv2", 256, 5, pad=2, groups=2, std=KAIMING),  # 256 x 27 x 27
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Relu(),
        Norm("norm2", n=5, k=2, alpha=1e-4, beta=0.75, within="tower"),
        Conv("conv3", 384, 3, pad=1, std=KAIMING),  # 384 x 13 x 13
        Relu(),
        Conv("conv4", 384, 3, pad=1, groups=2, std=KAIMING),  # 384 x 13 x 13
        Relu(),
        Conv("conv5", 256, 3, pad=1, groups=2, std=KAIMING),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Relu(),
        Fit(),  # 256 x 6 x 6, also while the views are still small
        Full("fc6", 4096, std=0.01),  # the full layers keep the start of 2012
        Relu(),
        Dropout(0.2, rescale="train"),
        Full("fc7", 4096, std=0.01),
        Relu(),
        Dropout(0.2, rescale="train"),
        Full("fc8", CLASSES, std=0.01),
    ),
)
