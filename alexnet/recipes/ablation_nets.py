"""Networks that are others with something changed.

The program's own comparisons, and readings of the paper's text. Each is written as what it changes,
so that the change can be read at a glance.
"""

from dataclasses import replace

from alexnet.recipes.layers import RELU, Conv, Layer, Linear, Pool
from alexnet.recipes.networks import ORIGINAL_NETWORK, PAPER_NETWORK
from alexnet.recipes.recipe import Network


def layer_name(layer: Layer) -> str:
    """Return a layer's name; empty for those without one, as activations are."""
    return str(getattr(layer, "name", ""))


def replace_layers(network: Network, *changed: Layer) -> Network:
    """Return the network with these layers in the place of its own of the same names."""
    new = {layer_name(layer): layer for layer in changed}
    layers = tuple(new.get(layer_name(layer), layer) for layer in network.layers)
    return replace(network, layers=layers)


def without(network: Network, *names: str) -> Network:
    """Return the network without the layers of these names."""
    layers = tuple(layer for layer in network.layers if layer_name(layer) not in names)
    return replace(network, layers=layers)


def insert_after(network: Network, name: str, *added: Layer) -> Network:
    """Return the network with layers added after the named one and its activation."""
    index = [layer_name(layer) for layer in network.layers].index(name) + 2
    return replace(network, layers=(*network.layers[:index], *added, *network.layers[index:]))


# ---- the program's own comparisons: runs #148, #147, #145-half, #150, and the paper's "1 CNN*"

NO_NORM_NETWORK = without(ORIGINAL_NETWORK, "norm1", "norm2", "spatial2")
NO_OVERLAP_NETWORK = replace_layers(
    ORIGINAL_NETWORK,
    Pool("pool1", 2, stride=2),  # 96 x 28 x 28
    Conv("conv2", 256, 5, padding=1, groups=2, init_std=0.01, init_bias=1),  # 256 x 26 x 26
    Pool("pool2", 2, stride=2),  # 256 x 13 x 13
    Conv("conv5", 256, 3, padding=0, groups=2, init_std=0.03, init_bias=1),  # 256 x 11 x 11
    Pool("pool3", 2, stride=2),  # 256 x 6 x 6
)
HALF_NETWORK = replace_layers(
    replace(ORIGINAL_NETWORK, towers=1),
    Conv("conv1", 48, 11, stride=4, init_std=0.01),
    Conv("conv2", 128, 5, padding=2, init_std=0.01, init_bias=1),
    Conv("conv3", 192, 3, padding=1, init_std=0.03),
    Conv("conv4", 192, 3, padding=1, init_std=0.03, init_bias=1),
    # not halved, as the paper's footnote says
    Conv("conv5", 256, 3, padding=1, init_std=0.03, init_bias=1),
)
SEPARATE_NETWORK = replace_layers(
    ORIGINAL_NETWORK,
    Conv("conv2", 320, 5, padding=2, groups=2, init_std=0.01, init_bias=1),  # 160 a tower
    Conv("conv3", 384, 3, padding=1, groups=2, init_std=0.03),  # its own tower only
    Linear("fc6", 8192, groups=2, init_std=0.01, init_bias=1),  # 4096 a tower
    Linear("fc7", 4096, groups=2, init_std=0.01, init_bias=1),  # 2048 a tower; only fc8 sees both
)
# A sixth convolution after pool3, which sees both towers (layers-146-2012-2011.cfg).
SIX_NETWORK = insert_after(
    ORIGINAL_NETWORK, "pool3", Conv("conv6", 256, 3, padding=1, init_std=0.03, init_bias=1), RELU
)

# ---- the reference texts' readings of the paper (docs/references.md)

# One device, no groups.
SINGLE_NETWORK = replace_layers(
    replace(PAPER_NETWORK, towers=1),
    Conv("conv2", 256, 5, padding=2, init_std=0.01, init_bias=1),  # sees all 96 channels
    Conv("conv4", 384, 3, padding=1, init_std=0.01, init_bias=1),
    Conv("conv5", 256, 3, padding=1, init_std=0.01, init_bias=1),
)
# The same with the norm before the relu.
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
# Halves, and the norm after the pool; 224 filled up to 227 with zeros, here past the right and
# bottom edge.
POOL_NORM_NETWORK = replace(
    PAPER_NETWORK,
    input=(3, 224, 224),
    conv_ceil_mode=True,
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
