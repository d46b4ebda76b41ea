"""Nets that go by the same name, and Krizhevsky's nets for CIFAR-10, written out.

Sources: Caffe's models bvlc_alexnet and bvlc_reference_caffenet; the net that torchvision calls
AlexNet, which is that of "One weird trick" (2014); the Fashion-MNIST net of the first reference
text (docs/references.md); the layer files of cuda-convnet (layers-18pct.cfg and
layers-conv-local-11pct.cfg) for CIFAR-10. The layout of the paper's figure 1 is not published: ours
is assumed. Shapes at the lines' ends are channels x height x width.
"""

from dataclasses import replace

from alexnet.recipes.layers import (
    KAIMING,
    NUM_CLASSES,
    RELU,
    SIGMOID,
    TANH,
    TORCH,
    Activation,
    Conv,
    Dropout,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
)
from alexnet.recipes.recipe import Network

# bvlc_alexnet: the paper's order; k = 1 and alpha divided by n, as Caffe's norm has it, across the
# border of the groups; biases 0.1, because 1 "gave flat loss".
CAFFE_NETWORK = Network(
    input=(3, 227, 227),
    towers=2,
    pool_ceil_mode=True,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=0.01),  # 96 x 55 x 55
        RELU,
        LocalResponseNorm("norm1", n=5, k=1, alpha=1e-4 / 5, beta=0.75),
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        Conv("conv2", 256, 5, padding=2, groups=2, init_std=0.01, init_bias=0.1),  # 256 x 27 x 27
        RELU,
        LocalResponseNorm("norm2", n=5, k=1, alpha=1e-4 / 5, beta=0.75),
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        Conv("conv3", 384, 3, padding=1, init_std=0.01),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 384, 3, padding=1, groups=2, init_std=0.01, init_bias=0.1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, groups=2, init_std=0.01, init_bias=0.1),  # 256 x 13 x 13
        RELU,
        Pool("pool5", 3, stride=2),  # 256 x 6 x 6
        Linear("fc6", 4096, init_std=0.005, init_bias=0.1),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc7", 4096, init_std=0.005, init_bias=0.1),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc8", NUM_CLASSES, init_std=0.01),
    ),
)

# bvlc_reference_caffenet: the pool before the norm, biases 1.
CAFFENET_NETWORK = replace(
    CAFFE_NETWORK,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=0.01),  # 96 x 55 x 55
        RELU,
        Pool("pool1", 3, stride=2),  # 96 x 27 x 27
        LocalResponseNorm("norm1", n=5, k=1, alpha=1e-4 / 5, beta=0.75),
        Conv("conv2", 256, 5, padding=2, groups=2, init_std=0.01, init_bias=1),  # 256 x 27 x 27
        RELU,
        Pool("pool2", 3, stride=2),  # 256 x 13 x 13
        LocalResponseNorm("norm2", n=5, k=1, alpha=1e-4 / 5, beta=0.75),
        Conv("conv3", 384, 3, padding=1, init_std=0.01),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 384, 3, padding=1, groups=2, init_std=0.01, init_bias=1),  # 384 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, groups=2, init_std=0.01, init_bias=1),  # 256 x 13 x 13
        RELU,
        Pool("pool5", 3, stride=2),  # 256 x 6 x 6
        Linear("fc6", 4096, init_std=0.005, init_bias=1),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc7", 4096, init_std=0.005, init_bias=1),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc8", NUM_CLASSES, init_std=0.01),
    ),
)

# torchvision's "AlexNet"; dropout comes before fc6 and fc7.
OWT_NETWORK = Network(
    input=(3, 224, 224),
    layers=(
        Conv("conv1", 64, 11, stride=4, padding=2, init_std=TORCH),  # 64 x 55 x 55
        RELU,
        Pool("pool1", 3, stride=2),  # 64 x 27 x 27
        Conv("conv2", 192, 5, padding=2, init_std=TORCH),  # 192 x 27 x 27
        RELU,
        Pool("pool2", 3, stride=2),  # 192 x 13 x 13
        Conv("conv3", 384, 3, padding=1, init_std=TORCH),  # 384 x 13 x 13
        RELU,
        Conv("conv4", 256, 3, padding=1, init_std=TORCH),  # 256 x 13 x 13
        RELU,
        Conv("conv5", 256, 3, padding=1, init_std=TORCH),  # 256 x 13 x 13
        RELU,
        Pool("pool3", 3, stride=2),  # 256 x 6 x 6
        Dropout(0.5, rescale="train"),
        Linear("fc6", 4096, init_std=TORCH),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc7", 4096, init_std=TORCH),
        RELU,
        Linear("fc8", NUM_CLASSES, init_std=TORCH),
    ),
)

# The first reference text, section 8: gray images, sizes 54, 26, 12, 5 by rounding down, no norm,
# no groups.
FASHION_NETWORK = Network(
    input=(1, 224, 224),
    num_classes=10,
    layers=(
        Conv("conv1", 96, 11, stride=4, init_std=TORCH),  # 96 x 54 x 54
        RELU,
        Pool("pool1", 3, stride=2),  # 96 x 26 x 26
        Conv("conv2", 256, 5, padding=2, init_std=TORCH),  # 256 x 26 x 26
        RELU,
        Pool("pool2", 3, stride=2),  # 256 x 12 x 12
        Conv("conv3", 384, 3, padding=1, init_std=TORCH),  # 384 x 12 x 12
        RELU,
        Conv("conv4", 384, 3, padding=1, init_std=TORCH),  # 384 x 12 x 12
        RELU,
        Conv("conv5", 256, 3, padding=1, init_std=TORCH),  # 256 x 12 x 12
        RELU,
        Pool("pool3", 3, stride=2),  # 256 x 5 x 5
        Linear("fc6", 4096, init_std=TORCH),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc7", 4096, init_std=TORCH),
        RELU,
        Dropout(0.5, rescale="train"),
        Linear("fc8", NUM_CLASSES, init_std=TORCH),
    ),
)

# layers-18pct.cfg: 18 % on CIFAR-10; its rnorm divides the scale by the window's nine pixels.
CIFAR_18_NETWORK = Network(
    input=(3, 32, 32),
    conv_ceil_mode=True,
    pool_ceil_mode=True,
    num_classes=10,
    layers=(
        Conv("conv1", 32, 5, padding=2, init_std=1e-4),  # 32 x 32 x 32
        Pool("pool1", 3, stride=2),  # 32 x 16 x 16
        RELU,
        SpatialResponseNorm("norm1", n=3, k=1, alpha=5e-5 / 9, beta=0.75),
        Conv("conv2", 32, 5, padding=2, init_std=0.01),  # 32 x 16 x 16
        RELU,
        Pool("pool2", 3, stride=2, mode="avg"),  # 32 x 8 x 8
        SpatialResponseNorm("norm2", n=3, k=1, alpha=5e-5 / 9, beta=0.75),
        Conv("conv3", 64, 5, padding=2, init_std=0.01),  # 64 x 8 x 8
        RELU,
        Pool("pool3", 3, stride=2, mode="avg"),  # 64 x 4 x 4
        Linear("fc10", NUM_CLASSES, init_std=0.01),
    ),
)

# layers-conv-local-11pct.cfg: 11 % on CIFAR-10 with 24-pixel crops; norms after pool1 and before
# pool2.
CIFAR_11_NETWORK = Network(
    input=(3, 24, 24),
    conv_ceil_mode=True,
    pool_ceil_mode=True,
    num_classes=10,
    layers=(
        Conv("conv1", 64, 5, padding=2, init_std=1e-4),  # 64 x 24 x 24
        RELU,
        Pool("pool1", 3, stride=2),  # 64 x 12 x 12
        LocalResponseNorm("norm1", n=9, k=1, alpha=0.001 / 9, beta=0.75),
        Conv("conv2", 64, 5, padding=2, init_std=0.01),  # 64 x 12 x 12
        RELU,
        LocalResponseNorm("norm2", n=9, k=1, alpha=0.001 / 9, beta=0.75),
        Pool("pool2", 3, stride=2),  # 64 x 6 x 6
        LocallyConnected("local3", 64, 3, padding=1, init_std=0.04),  # 64 x 6 x 6
        RELU,
        LocallyConnected("local4", 32, 3, padding=1, init_std=0.04),  # 32 x 6 x 6
        RELU,
        Linear("fc10", NUM_CLASSES, init_std=0.01),
    ),
)


def four_layers(function: Activation) -> Network:
    """Return the net of the paper's figure 1 as we assume it: the 18 % net without its norms."""
    return Network(
        input=(3, 32, 32),
        conv_ceil_mode=True,
        pool_ceil_mode=True,
        num_classes=10,
        layers=(
            Conv("conv1", 32, 5, padding=2, init_std=KAIMING),  # 32 x 32 x 32
            function,
            Pool("pool1", 3, stride=2),  # 32 x 16 x 16
            Conv("conv2", 32, 5, padding=2, init_std=KAIMING),  # 32 x 16 x 16
            function,
            Pool("pool2", 3, stride=2),  # 32 x 8 x 8
            Conv("conv3", 64, 5, padding=2, init_std=KAIMING),  # 64 x 8 x 8
            function,
            Pool("pool3", 3, stride=2),  # 64 x 4 x 4
            Linear("fc10", NUM_CLASSES, init_std=0.01),
        ),
    )


FIGURE1_NETWORK = four_layers(RELU)
FIGURE1_TANH_NETWORK = four_layers(TANH)
FIGURE1_SIGMOID_NETWORK = four_layers(SIGMOID)
