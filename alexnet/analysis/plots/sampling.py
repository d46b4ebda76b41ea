"""Choose which of many items to show: evenly spaced, never hand-picked."""


def evenly_spaced(count: int, total: int) -> list[int]:
    """Return up to `count` indices below `total`, evenly spaced from 0 on, each at most once."""
    count = min(count, total)
    return [index * total // count for index in range(count)]
