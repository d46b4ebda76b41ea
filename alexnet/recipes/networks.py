"""The networks of 2012, written out: the program's, the paper's, today's reading of the same layers, and their near relations.

Shapes beside the lines are channels x height x width for the network's own input. Sources: the layer file of run #145 in the
published 2012 source code (layers/layers-145.cfg) for ORIGINAL, the paper's text for PAPER. Where the two differ, the line
says so; the ledger of all differences is in docs/paper.md. A relation is written as what it changes: layers of the same name
take the place of the old ones (`but`), named layers fall away (`less`).
"""

from dataclasses import replace

from alexnet.recipes.layers import CLASSES, KAIMING, RELU, Conv, Dropout, Fit, Full, Layer, Norm, Pool, SpatialNorm
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
        RELU,
        Conv("conv2", 256, 5, pad=2, groups=2, std=0.01, bias=1),  # 256 x 27 x 27
        RELU,
        Norm("norm2", n=5, k=2, alpha=1e-4 / 5, beta=0.75, within="tower"),  # the program divides alpha by n
        SpatialNorm("spatial2", n=5, k=1, alpha=1e-3 / 25, beta=0.75),  # in the program, not in the text
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, pad=1, std=0.03),  # 384 x 13 x 13, sees both towers
        RELU,
        Conv("conv4", 384, 3, pad=1, groups=2, std=0.03, bias=1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, pad=1, groups=2, std=0.03, bias=1),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        RELU,
        Full("fc6", 4096, std=0.01, bias=1),  # sees both towers, as do fc7 and fc8
        RELU,
        Dropout(0.5, rescale="test"),
        Full("fc7", 4096, std=0.01, bias=1),
        RELU,
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
        RELU,
        Norm("norm1", n=5, k=2, alpha=1e-4, beta=0.75),  # section 3.3: alpha per term, over all N kernels of the layer
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Conv("conv2", 256, 5, pad=2, groups=2, std=0.01, bias=1),  # 256 x 27 x 27
        RELU,
        Norm("norm2", n=5, k=2, alpha=1e-4, beta=0.75),
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, pad=1, std=0.01),  # 384 x 13 x 13; section 5: deviation .01 in every layer
        RELU,
        Conv("conv4", 384, 3, pad=1, groups=2, std=0.01, bias=1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, pad=1, groups=2, std=0.01, bias=1),  # 256 x 13 x 13
        RELU,
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Full("fc6", 4096, std=0.01, bias=1),
        RELU,
        Dropout(0.5, rescale="test"),
        Full("fc7", 4096, std=0.01, bias=1),
        RELU,
        Dropout(0.5, rescale="test"),
        Full("fc8", CLASSES, std=0.01),
    ),
)

# The 2012 layers in the order pool, relu, norm of the runs #112 to #120, which costs a quarter and loses .1 points. k = 1, as in
# Caffe's: on inputs of unit deviation k = 2 would do little but shrink all values to .59, twice, and slow the learning down.
MODERN_NETWORK = Network(
    input=(3, 227, 227),
    towers=2,
    layers=(
        Conv("conv1", 96, 11, stride=4, std=KAIMING),  # 96 x 55 x 55
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        RELU,
        Norm("norm1", n=5, k=1, alpha=1e-4, beta=0.75, within="tower"),
        Conv("conv2", 256, 5, pad=2, groups=2, std=KAIMING),  # 256 x 27 x 27
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        RELU,
        Norm("norm2", n=5, k=1, alpha=1e-4, beta=0.75, within="tower"),
        Conv("conv3", 384, 3, pad=1, std=KAIMING),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 384, 3, pad=1, groups=2, std=KAIMING),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, pad=1, groups=2, std=KAIMING),  # 256 x 13 x 13
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        RELU,
        Fit(),  # 256 x 6 x 6, also while the views are still small
        Full("fc6", 4096, std=0.01),  # the full layers keep the start of 2012
        RELU,
        Dropout(0.2, rescale="train"),
        Full("fc7", 4096, std=0.01),
        RELU,
        Dropout(0.2, rescale="train"),
        Full("fc8", CLASSES, std=0.01),
    ),
)


def but(network: Network, *changed: Layer) -> Network:
    """The network with layers of these names in the place of its own."""
    new = {getattr(layer, "name", None): layer for layer in changed}
    return replace(network, layers=tuple(new.get(getattr(layer, "name", ""), layer) for layer in network.layers))


def less(network: Network, *names: str) -> Network:
    """The network without the layers of these names."""
    return replace(network, layers=tuple(layer for layer in network.layers if getattr(layer, "name", None) not in names))


def behind(network: Network, name: str, *added: Layer) -> Network:
    """The network with layers added behind the one of that name and the activation that follows it."""
    place = [getattr(layer, "name", None) for layer in network.layers].index(name) + 2
    return replace(network, layers=(*network.layers[:place], *added, *network.layers[place:]))


# One device, no groups: the paper's order (seed 001), and the norm before the relu (seed 000, section 3).
SINGLE_NETWORK = but(
    replace(PAPER_NETWORK, towers=1),
    Conv("conv2", 256, 5, pad=2, std=0.01, bias=1),  # sees all 96 maps
    Conv("conv4", 384, 3, pad=1, std=0.01, bias=1),
    Conv("conv5", 256, 3, pad=1, std=0.01, bias=1),
)
SINGLE_PRENORM_NETWORK = replace(
    SINGLE_NETWORK,
    layers=(
        SINGLE_NETWORK.layers[0],  # conv1
        SINGLE_NETWORK.layers[2],  # norm1
        SINGLE_NETWORK.layers[1],  # relu
        *SINGLE_NETWORK.layers[3:5],  # pool1, conv2
        SINGLE_NETWORK.layers[6],  # norm2
        SINGLE_NETWORK.layers[5],  # relu
        *SINGLE_NETWORK.layers[7:],
    ),
)

# Halves, and the norm behind the pool; 224 filled up to 227 with zeros, here past the right and bottom edge (seed 003).
POOL_NORM_NETWORK = replace(
    PAPER_NETWORK,
    input=(3, 224, 224),
    round_conv="up",
    layers=(
        *PAPER_NETWORK.layers[:2],  # conv1, relu
        PAPER_NETWORK.layers[3],  # pool1
        PAPER_NETWORK.layers[2],  # norm1
        *PAPER_NETWORK.layers[4:6],  # conv2, relu
        PAPER_NETWORK.layers[7],  # pool2
        PAPER_NETWORK.layers[6],  # norm2
        *PAPER_NETWORK.layers[8:],
    ),
)

# A sixth convolution behind pool3, which sees both towers (layers-146-2012-2011.cfg): the paper's "1 CNN*".
SIX_NETWORK = behind(ORIGINAL_NETWORK, "pool3", Conv("conv6", 256, 3, pad=1, std=0.03, bias=1), RELU)

# The program's own comparisons: runs #148, #147, #145-half, #150.
NO_NORM_NETWORK = less(ORIGINAL_NETWORK, "norm1", "norm2", "spatial2")
NO_OVERLAP_NETWORK = but(
    ORIGINAL_NETWORK,
    Pool("pool1", 2, stride=2),  # 96 x 28 x 28
    Conv("conv2", 256, 5, pad=1, groups=2, std=0.01, bias=1),  # 256 x 26 x 26
    Pool("pool2", 2, stride=2),  # 256 x 13 x 13
    Conv("conv5", 256, 3, pad=0, groups=2, std=0.03, bias=1),  # 256 x 11 x 11
    Pool("pool3", 2, stride=2),  # 256 x 6 x 6
)
HALF_NETWORK = but(
    replace(ORIGINAL_NETWORK, towers=1),
    Conv("conv1", 48, 11, stride=4, std=0.01),
    Conv("conv2", 128, 5, pad=2, std=0.01, bias=1),
    Conv("conv3", 192, 3, pad=1, std=0.03),
    Conv("conv4", 192, 3, pad=1, std=0.03, bias=1),
    Conv("conv5", 256, 3, pad=1, std=0.03, bias=1),  # not halved, as the paper's footnote says
)
SEPARATE_NETWORK = but(
    ORIGINAL_NETWORK,
    Conv("conv2", 320, 5, pad=2, groups=2, std=0.01, bias=1),  # 160 a tower
    Conv("conv3", 384, 3, pad=1, groups=2, std=0.03),  # its own tower only
    Full("fc6", 8192, groups=2, std=0.01, bias=1),  # 4096 a tower
    Full("fc7", 4096, groups=2, std=0.01, bias=1),  # 2048 a tower; only fc8 sees both
)
