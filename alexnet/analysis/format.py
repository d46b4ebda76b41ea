"""Format numbers and describe recipes in words, for readers of reports instead of field names.

Every setting of a recipe's augmentation and training that changes what happens is described, and
layers in the paper's terms. Numbers get the digits they deserve and a no-break space before their
unit. Nothing is computed here, and HTML is not known here.
"""

from alexnet.recipes.layers import Layer, Shape

NBSP = "\N{NO-BREAK SPACE}"


# ---- numbers


def format_percent(value: float | None, digits: int = 1) -> str:
    """Format a percentage: 12.3 %, or a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}{NBSP}%"


def format_probability(probability: float) -> str:
    """Format a probability in percent; a small one is not shown as 0, nor a large one as 100."""
    if 0 < probability < 0.001:
        return f"<{NBSP}0.1{NBSP}%"
    if 0.9995 <= probability < 1:
        return f">{NBSP}99.9{NBSP}%"
    return format_percent(100 * probability)


def format_time(seconds: float) -> str:
    """Format seconds no finer than a reader needs: 2 h 05 min, 3 min 20 s, 12.4 s."""
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest:02}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60:02}{NBSP}min"


def format_count(count: int, singular: str, plural: str | None = None) -> str:
    """Format a count with its noun: 1 image, 1,200 images."""
    noun = singular if count == 1 else plural or f"{singular}s"
    return f"{count:,}{NBSP}{noun}"


def format_shape(shape: Shape) -> str:
    """Format a shape (C, H, W): 96 × 55 × 55, or 4096 where height and width are 1."""
    return str(shape[0]) if shape[1:] == (1, 1) else format_size(*shape)


def format_size(*sides: object) -> str:
    """Format a size that does not break over lines: 11 × 11."""
    return f"{NBSP}×{NBSP}".join(map(str, sides))


# ---- recipes


def layer_name(layer: Layer) -> str:
    """Return a layer's name; one that has none is named after what it does: relu, dropout."""
    return layer.module_name("")


def describe_layer(layer: Layer, rounded_up: bool = False) -> str:
    """Describe what a layer does; `rounded_up`: its last windows run past the edge."""
    return f"{layer.describe()}, past the edge" if rounded_up else layer.describe()
