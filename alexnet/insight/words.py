"""Recipes and numbers in words: what a reader meets in a report instead of field names and raw floats.

Every field of a recipe's views and training that changes what happens is said, and layers in the paper's terms. Numbers get the
digits they deserve and a no-break space before their unit. Nothing is computed here, and nothing here knows of HTML.
"""

from alexnet.recipes.layers import Activation, Conv, Dropout, Fit, Full, Layer, Local, Norm, Pool, Shape, SpatialNorm
from alexnet.recipes.recipe import Recipe, Training, Views
from alexnet.recipes.schedules import Line, Plateau, Schedule

Pairs = list[tuple[str, str]]

NBSP = "\N{NO-BREAK SPACE}"
TEST_VIEWS = {
    1: "the centre alone",
    9: "a grid of three by three crops",
    10: "four corners and the centre, and their mirror images",
}


# ---- numbers


def percent(value: float | None, digits: int = 1) -> str:
    """A percentage: 12.3 %, or a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}{NBSP}%"


def share(probability: float) -> str:
    """A probability in percent; a small one is not called nothing, nor a large one certain."""
    if 0 < probability < 0.001:
        return f"<{NBSP}0.1{NBSP}%"
    return f">{NBSP}99.9{NBSP}%" if 0.9995 <= probability < 1 else percent(100 * probability)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, no finer than a reader wants: 2 h 05 min, 3 min 20 s, 12.4 s."""
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest:02}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60:02}{NBSP}min"


def number(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: 1 picture, 1,200 pictures."""
    return f"{count:,}{NBSP}{one if count == 1 else many or one + 's'}"


def shape(of: Shape) -> str:
    """96 × 55 × 55, or 4096 where there is nothing but maps."""
    return str(of[0]) if of[1:] == (1, 1) else times(*of)


def times(*sides: int) -> str:
    """11 × 11, in one piece."""
    return f"{NBSP}×{NBSP}".join(map(str, sides))


# ---- recipes


def called(what: Layer) -> str:
    """A layer's name; one that has none is called by what it does: relu, dropout, fit."""
    if isinstance(what, Activation):
        return what.function
    return what.name if not isinstance(what, Dropout | Fit) else type(what).__name__.lower()


def layer(what: Layer, rounded_up: bool = False) -> str:
    """What a layer does, in a few words; `rounded_up`: its last windows run past the edge."""
    match what:
        case Conv():
            extras = [f"stride {what.stride}"] if what.stride > 1 else []
            extras += [f"padding {what.pad}"] if what.pad else []
            extras += [f"{what.groups} groups"] if what.groups > 1 else []
            extras += ["past the edge"] if rounded_up else []
            return ", ".join([f"convolution, {what.maps} kernels of {times(what.size, what.size)}", *extras])
        case Local():
            extras = [f"padding {what.pad}"] if what.pad else []
            return ", ".join([f"locally connected, {what.maps} kernels of {times(what.size, what.size)} at each place", *extras])
        case Full():
            return f"fully connected, {what.groups} groups" if what.groups > 1 else "fully connected"
        case Norm():
            return f"response norm over {what.n} maps of the {what.within}, k = {what.k:g}, α = {what.alpha:g}, β = {what.beta:g}"
        case SpatialNorm():
            return f"response norm over {times(what.n, what.n)} pixels, k = {what.k:g}, α = {what.alpha:g}, β = {what.beta:g}"
        case Pool():
            return f"{what.takes} pooling, {times(what.size, what.size)}, stride {what.stride}"
        case Activation():
            return what.function
        case Dropout():
            return f"dropout of {what.p:g}, made up for while {'training' if what.rescale == 'train' else 'testing'}"
        case Fit():
            return "averaged to this size while views are smaller"


def schedule(of: Schedule, unit: str = "") -> str:
    """A schedule as a sentence: its values in order, each with the epoch from which it holds."""
    if isinstance(of, Plateau):
        return (
            f"{of.start:g}{unit}, times {of.factor:g} whenever the validation error has not fallen by {of.threshold:g} points "
            f"in {of.patience} epochs, {of.cuts} times at most"
        )
    (_, first), *later = of.points
    if isinstance(of, Line):
        return ", ".join([f"from {first:g}{unit}", *(f"straight to {value:g}{unit} at epoch {end:g}" for end, value in later)])
    if not later:
        return f"{first:g}{unit} throughout"
    return "; ".join([f"{first:g}{unit}", *(f"{value:g}{unit} from epoch {start:g}" for start, value in later)])


def views(of: Views) -> Pairs:
    """What the network sees of a picture, setting by setting."""
    crops = "one crop for each picture" if of.shared_by == 1 else f"one crop for {of.shared_by} pictures in a row"
    subtracted = (
        "the mean colour" if of.mean == "colour" else f"the mean image, its part at {'the' if of.mean_at == 'centre' else 'each'}"
    )
    if of.mean == "image":
        subtracted += f" {of.mean_at}"
    pairs = [
        ("Crops", f"{crops}, {'mirrored half of the time' if of.mirror else 'never mirrored'}"),
        ("Subtracted", subtracted),
    ]
    if any(value for _, value in of.noise.points):
        along = "root of its eigenvalue" if of.noise_unit == "deviation" else "eigenvalue on a scale from 0 to 1"
        divided = "; the input is divided by 1 + noise" if of.noise_divides else ""
        pairs.append(("Colour noise", f"{schedule(of.noise)}, along each principal colour in units of the {along}{divided}"))
    if of.scale != 1:
        pairs.append(("Scaled by", f"1/{1 / of.scale:g}" if of.scale < 1 else f"{of.scale:g}"))
    if of.sizes:
        pairs.append(("Side while training", schedule(of.sizes, f"{NBSP}px")))
    if of.rotation:
        pairs.append(("Rotation", f"up to {of.rotation:g}° either way"))
    return [*pairs, ("At test", TEST_VIEWS[of.test])]


def training(of: Training) -> Pairs:
    """How the network learns, setting by setting; the schedules in words."""
    decay = f"{of.decay:g}{'' if of.decay_biases else ', not on biases'}"
    return [
        ("Epochs", f"{of.epochs}, in {'a new' if of.reshuffle else 'the same'} order each"),
        ("Batch", number(of.batch, "picture")),
        ("Learning rate", schedule(of.rate)),
        *([("Rate of biases", f"times {of.bias_rate:g}")] if of.bias_rate != 1 else []),
        *((f"Rate of {apart.suffix.lstrip('.')}", schedule(apart.rate)) for apart in of.apart if apart.rate is not None),
        *((f"Decay of {apart.suffix.lstrip('.')}", f"{apart.decay:g}") for apart in of.apart if apart.decay is not None),
        ("Momentum", f"{of.momentum:g}"),
        ("Weight decay", decay),
        *([("Label smoothing", f"{of.smoothing:g}")] if of.smoothing else []),
    ]


def network(of: Recipe) -> str:
    """The network in one sentence."""
    towers = f", in {of.network.towers} towers" if of.network.towers > 1 else ""
    rounding = of.network.round_conv, of.network.round_pool
    said = (
        f"convolutions round {rounding[0]}, pooling rounds {rounding[1]}"
        if len(set(rounding)) > 1
        else f"sizes round {rounding[0]}"
    )
    return f"It sees {shape(of.network.input)}{towers}; {said}."
