"""Recipes in words: schedules, augmentation, training, for messages, `alexnet describe`, reports.

Every setting that changes what happens is named, in plain text with ordinary spaces; how it is
laid out is the caller's. Nothing is computed here.
"""

from dataclasses import replace

from alexnet.recipes.recipe import Augmentation, Network, ParamGroup, Training
from alexnet.recipes.schedules import (
    PiecewiseConstant,
    PiecewiseLinear,
    ReduceOnPlateau,
    Schedule,
)

Pairs = list[tuple[str, str]]  # (setting, its value in words)

TEST_CROPS = {
    1: "the center crop",
    9: "nine crops, on a grid of 3 x 3",
    10: "ten crops: four corners and the center, each also mirrored",
}


def describe_schedule(schedule: Schedule, unit: str = "") -> str:
    """Return the values of a schedule in order, each with the epoch from which it holds."""
    if isinstance(schedule, ReduceOnPlateau):
        return _describe_plateau(schedule, unit)
    (_, first), *later = schedule.points
    if not later:
        return f"{first:.4g}{unit}"
    if isinstance(schedule, PiecewiseLinear):
        steps = [f"linearly to {value:.4g}{unit} at epoch {epoch:.4g}" for epoch, value in later]
    else:
        steps = [f"{value:.4g}{unit} from epoch {epoch:.4g}" for epoch, value in later]
    return ", ".join([f"{first:.4g}{unit}", *steps])


def _describe_plateau(schedule: ReduceOnPlateau, unit: str) -> str:
    points = f"{schedule.threshold:g} percentage points"
    return (
        f"{schedule.initial_lr:.4g}{unit}, times {schedule.factor:g} when the validation error "
        f"has not fallen by {points} in {schedule.patience} epochs, "
        f"at most {schedule.max_reductions} times"
    )


def describe_lr(training: Training) -> list[str]:
    """Return the learning rates in words, one line each: of all parameters, then of groups.

    The layers that are frozen share one line; the groups' own weight decays follow.
    """
    frozen = _frozen_layers(training)
    groups = [f"lr of {group}: {words}" for group, words in _group_lrs(training)]
    decays = [f"weight decay of {group}: {words}" for group, words in _group_decays(training)]
    lines = [f"lr {describe_schedule(training.lr)}", *groups, *decays]
    if frozen:
        lines.append(f"frozen: {_join_layers(frozen)}")
    return lines


def describe_resolution(schedule: PiecewiseConstant, side: int) -> str:
    """Return the sides of the training images in words; `side`: the network's input, their limit.

    Training shrinks images and never enlarges them past the input, so a larger value means `side`.
    """
    points = schedule.capped(side).points
    changes = tuple(
        point
        for index, point in enumerate(points)
        if index == 0 or points[index - 1][1] != point[1]
    )
    return describe_schedule(replace(schedule, points=changes), " px")


def describe_training(training: Training) -> Pairs:
    """Return the settings of training with their values in words, schedules included."""
    order = "a new order each" if training.reshuffle else "the same order each"
    text = f"{training.weight_decay:g}"
    frozen = _frozen_layers(training)
    pairs = [
        ("Epochs", f"{training.epochs}, in {order}"),
        ("Batch size", f"{training.batch_size}"),
        ("Learning rate", describe_schedule(training.lr)),
        *((f"Learning rate of {group}", words) for group, words in _group_lrs(training)),
        ("Momentum", f"{training.momentum:g}"),
        ("Weight decay", text if training.decay_biases else f"{text}, not on biases"),
        *((f"Weight decay of {group}", words) for group, words in _group_decays(training)),
    ]
    if training.label_smoothing:
        pairs.append(("Label smoothing", f"{training.label_smoothing:g}"))
    if frozen:
        pairs.append(("Frozen layers", _join_layers(frozen)))
    return pairs


def _frozen_layers(training: Training) -> list[str]:
    """Return the layers whose weight and bias both keep a learning rate of 0, in order."""
    still = [group.suffix for group in _effective_groups(training) if _is_frozen(group)]
    names = [suffix.removesuffix(".weight") for suffix in still if suffix.endswith(".weight")]
    return [name for name in names if name and f"{name}.bias" in still]


def _is_frozen(group: ParamGroup) -> bool:
    return group.lr is not None and group.lr.largest == 0


def _effective_groups(training: Training) -> list[ParamGroup]:
    """Return the groups with a learning rate that no later group overrules as a whole."""
    groups = [group for group in training.param_groups if group.lr is not None]
    return [
        group
        for index, group in enumerate(groups)
        if not any(group.suffix.endswith(later.suffix) for later in groups[index + 1 :])
    ]


def _join_layers(names: list[str]) -> str:
    """Return layers as "conv1 to conv5" where their numbers follow each other, else as a list."""
    numbers = [name.lstrip("abcdefghijklmnopqrstuvwxyz") for name in names]
    if len(names) > 2 and all(map(str.isdecimal, numbers)):
        first = int(numbers[0])
        if list(map(int, numbers)) == list(range(first, first + len(names))):
            return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


def _group_lrs(training: Training) -> Pairs:
    """Return the groups with a learning rate of their own, and that rate; without frozen layers."""
    frozen = _frozen_layers(training)
    groups = [
        (_group_name(group), describe_schedule(group.lr))
        for group in _effective_groups(training)
        if group.lr is not None and group.suffix.rpartition(".")[0] not in frozen
    ]
    if training.bias_lr_mult == 1:
        return groups
    return [("biases", f"times {training.bias_lr_mult:g}"), *groups]


def _group_decays(training: Training) -> Pairs:
    """Return the groups with a weight decay of their own, and that decay."""
    return [
        (_group_name(group), f"{group.weight_decay:g}")
        for group in training.param_groups
        if group.weight_decay is not None
    ]


def describe_augmentation(augmentation: Augmentation, side: int) -> Pairs:
    """Return the settings of preprocessing and augmentation with their values in words.

    `side`: that of the network's input, which limits the training resolution.
    """
    pairs = [
        ("Random crops", _describe_crops(augmentation)),
        ("Subtracted", _describe_mean(augmentation)),
    ]
    if any(value for _, value in augmentation.color_jitter.points):
        pairs.append(("Color jitter (PCA)", _describe_jitter(augmentation)))
    if augmentation.scale != 1:
        pairs.append(("Scale", _describe_scale(augmentation.scale)))
    if augmentation.resolution_schedule is not None:
        resolution = describe_resolution(augmentation.resolution_schedule, side)
        pairs.append(("Training resolution", resolution))
    if augmentation.rotation:
        pairs.append(("Rotation", f"up to {augmentation.rotation:g} degrees either way"))
    return [*pairs, ("Test crops", TEST_CROPS[augmentation.test_crops])]


def describe_network(network: Network) -> str:
    """Return the network's input, towers and rounding in one sentence."""
    shape = " x ".join(map(str, network.input))
    towers = f", {network.towers} towers" if network.towers > 1 else ""
    convolution = _rounding(network.conv_ceil_mode)
    pooling = _rounding(network.pool_ceil_mode)
    if convolution == pooling:
        sizes = f"output sizes round {convolution}"
    else:
        sizes = f"convolutions round {convolution}, pooling rounds {pooling}"
    return f"Input {shape}{towers}; {sizes}."


def _group_name(group: ParamGroup) -> str:
    """Return what a group holds: `.bias` is every bias."""
    names = {".bias": "biases", ".weight": "weights"}
    return names.get(group.suffix, group.suffix.lstrip("."))


def _describe_crops(augmentation: Augmentation) -> str:
    size = augmentation.crop_group_size
    crops = "one per image" if size == 1 else f"one for each group of {size} images"
    return f"{crops}, {'mirrored half of the time' if augmentation.mirror else 'never mirrored'}"


def _describe_mean(augmentation: Augmentation) -> str:
    if augmentation.mean == "color":
        return "the mean color"
    if augmentation.mean_at == "center":
        return "the center of the mean image"
    return "the mean image at the crop's position"


def _describe_jitter(augmentation: Augmentation) -> str:
    if augmentation.color_jitter_unit == "deviation":
        unit = "square root of the eigenvalue"
    else:
        unit = "eigenvalue (white = 1)"
    rescale = "; the input is divided by 1 + jitter" if augmentation.rescale_by_jitter else ""
    values = describe_schedule(augmentation.color_jitter)
    return f"{values}, along each principal component, times the {unit}{rescale}"


def _describe_scale(scale: float) -> str:
    return f"1/{1 / scale:g}" if scale < 1 else f"{scale:g}"


def _rounding(ceil_mode: bool) -> str:
    return "up" if ceil_mode else "down"
