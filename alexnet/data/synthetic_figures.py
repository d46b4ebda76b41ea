"""The twelve figures of the synthetic data set: polygons and lines with random proportions.

A figure is drawn in a box of about -1 to 1, x to the right and y downwards; `synthetic` poses and
colors it. The random numbers are drawn in the order in which they are written here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

BODY, TRIM, SPOT, INK, PAPER = range(5)  # the tones of a figure

Generator = np.random.Generator
Points = np.ndarray  # float64 (n, 2): x to the right, y downwards, about -1 to 1


@dataclass(frozen=True)
class Part:
    """One piece of a figure: a filled polygon, or with a width the line through its points."""

    points: Points
    tone: int
    width: float = 0.0


Figure = list[Part]


# ---- outlines


def _arc(
    x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, count: int = 40
) -> Points:
    """Return points along an ellipse, from start to end in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, count))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def _line(*corners: tuple[float, float]) -> Points:
    return np.array(corners, float)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return _line((left, top), (right, top), (right, bottom), (left, bottom))


def round_corners(*corners: tuple[float, float]) -> Points:
    """Return a closed polygon with its corners cut three times (Chaikin), nearly a spline."""
    points = np.array(corners, float)
    for _ in range(3):
        following = np.roll(points, -1, 0)
        points = np.stack(
            [0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1
        ).reshape(-1, 2)
    return points


def rotate(points: Points, degrees: float) -> Points:
    """Return points rotated clockwise about the origin."""
    angle = np.radians(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _mirrored(*parts: Part) -> Figure:
    """Return each part and its mirror image across the vertical axis."""
    return [side for part in parts for side in (part, replace(part, points=part.points * (-1, 1)))]


# ---- the twelve figures


def _balloon(rng: Generator) -> Figure:
    wide = rng.uniform(0.62, 0.78)
    neck = rng.uniform(0.14, 0.22)

    def envelope(share: float) -> Points:
        w = wide * share
        n = neck * share
        return np.concatenate([_arc(0, -0.35, w, 0.65, 170, 370), _line((n, 0.48), (-n, 0.48))])

    gores = [Part(envelope(share), tone) for share, tone in ((1, BODY), (0.66, TRIM), (0.3, BODY))]
    ropes = _mirrored(Part(_line((neck, 0.48), (0.15, 0.78)), INK, 0.03))
    belt = Part(_line((-wide, -0.3), (0, -0.2), (wide, -0.3)), SPOT, rng.uniform(0.06, 0.14))
    return [*ropes, *gores, belt, Part(_box(-0.18, 0.74, 0.18, 1), SPOT)]


def _boat(rng: Generator) -> Figure:
    mast = rng.uniform(-0.15, 0.1)
    deck = rng.uniform(0.38, 0.5)
    bow = rng.uniform(0.85, 1.0)
    hull = round_corners(
        (-0.95, deck),
        (-0.95, deck),
        (bow, deck),
        (bow, deck),
        (0.6, 0.95),
        (-0.65, 0.95),
        (-0.75, 0.9),
    )
    band = _line((-0.84, deck + 0.14), (0.86, deck + 0.14))
    mainsail = round_corners(
        (mast - 0.06, -0.8),
        (mast - 0.06, -0.8),
        (mast - 0.06, deck - 0.1),
        (-0.85, deck - 0.1),
        (-0.85, deck - 0.1),
    )
    jib = round_corners(
        (mast + 0.06, -0.65),
        (mast + 0.06, -0.65),
        (0.85, deck - 0.1),
        (0.85, deck - 0.1),
        (mast + 0.06, deck - 0.1),
    )
    flag = _line((mast, -1), (mast + 0.3, -0.92), (mast, -0.84))
    return [
        Part(_line((mast, -1), (mast, deck)), INK, 0.06),
        Part(mainsail, BODY),
        Part(jib, TRIM),
        Part(flag, SPOT),
        Part(hull, SPOT),
        Part(band, PAPER, 0.07),
    ]


def _butterfly(rng: Generator) -> Figure:
    span = rng.uniform(0.85, 1.0)
    low = rng.uniform(0.6, 0.85)
    dot = rng.uniform(0.1, 0.16)
    upper = round_corners(
        (0.02, -0.05), (0.25, -0.75), (span, -0.95), (span, -0.3), (0.6, 0.05), (0.05, 0.1)
    )
    lower = round_corners(
        (0.02, 0.0), (0.6, 0.02), (low, 0.35), (low * 0.75, 0.9), (0.3, 0.75), (0.03, 0.3)
    )
    feeler = _line((0.02, -0.4), (0.1, -0.65), (0.26, -0.85))
    halves = [
        Part(feeler, INK, 0.04),
        Part(lower, TRIM),
        Part(upper, BODY),
        Part(_arc(0.6, -0.5, dot * 1.5, dot * 1.3), SPOT),
        Part(_arc(0.6, -0.5, dot * 0.7, dot * 0.6), PAPER),
        Part(_arc(low * 0.62, 0.42, dot, dot * 1.2), SPOT),
    ]
    return [*_mirrored(*halves), Part(_arc(0, 0.05, 0.09, 0.5), INK)]


def _cat(rng: Generator) -> Figure:
    cheek = rng.uniform(0.82, 0.95)
    ear = rng.uniform(0.85, 1.0)
    slit = rng.uniform(0.04, 0.1)
    halves = [
        Part(_line((0.22, -0.5), (0.72, -ear), (0.85, -0.1)), BODY),
        Part(_line((0.4, -0.5), (0.67, -ear + 0.17), (0.73, -0.25)), SPOT),
    ]
    face = [
        Part(_arc(0.36, -0.02, 0.2, 0.17), PAPER),
        Part(_arc(0.36, -0.02, slit, 0.15), INK),
        Part(_line((0.3, 0.4), (0.95, 0.28)), INK, 0.03),
        Part(_line((0.3, 0.48), (0.95, 0.52)), INK, 0.03),
        Part(_arc(0.13, 0.45, 0.14, 0.13, 0, 180), INK, 0.045),
    ]
    head = Part(_arc(0, 0.15, cheek, 0.75), BODY)
    blaze = Part(_line((-0.2, -0.58), (0, -0.15), (0.2, -0.58)), TRIM)
    muzzle = Part(_arc(0, 0.5, 0.36, 0.26), TRIM)
    nose = Part(_line((-0.12, 0.28), (0.12, 0.28), (0, 0.42)), SPOT)
    return [*_mirrored(*halves), head, blaze, muzzle, *_mirrored(*face), nose]


def _cup(rng: Generator) -> Figure:
    foot = rng.uniform(0.3, 0.5)
    depth = rng.uniform(0.62, 0.8)
    body = np.concatenate(
        [_line((-0.65, -0.3), (0.65, -0.3)), _arc(0, depth - 0.25, foot + 0.1, 0.25, 0, 180)]
    )
    rise = np.linspace(0, 1, 16)
    steam = [
        np.stack([x + 0.07 * np.sin(7 * rise), -0.54 - 0.46 * rise], 1) for x in (-0.28, 0.0, 0.28)
    ]
    band = rng.uniform(0.0, 0.2)
    return [
        *(Part(curl, PAPER, 0.06) for curl in steam),
        Part(_arc(0, depth + 0.06, 0.9, 0.14), TRIM),
        Part(_arc(0.62, 0.08, 0.32, 0.3, -110, 130), BODY, 0.13),
        Part(body, BODY),
        Part(_box(-0.56, band, 0.56, band + 0.16), SPOT),
        Part(_arc(0, -0.3, 0.65, 0.17), TRIM),
        Part(_arc(0, -0.28, 0.54, 0.11), INK),
    ]


def _fish(rng: Generator) -> Figure:
    deep = rng.uniform(0.42, 0.6)
    tail = rng.uniform(0.4, 0.62)
    body = round_corners(
        (-1, 0.05),
        (-0.7, -deep),
        (0.1, -deep * 1.1),
        (0.62, -0.08),
        (0.62, 0.1),
        (0.1, deep * 1.1),
        (-0.7, deep),
    )
    fan = round_corners(
        (0.5, 0),
        (0.6, -0.1),
        (1.05, -tail),
        (1.05, -tail),
        (0.86, 0),
        (1.05, tail),
        (1.05, tail),
        (0.6, 0.1),
    )
    back = round_corners(
        (-0.4, -deep * 0.8), (-0.1, -deep - 0.42), (0.3, -deep - 0.25), (0.4, -deep * 0.4)
    )
    stripes = [_arc(x - 0.5, 0, 0.5, deep * 1.1, -35, 35) for x in (-0.1, 0.14, 0.36)]
    return [
        Part(fan, TRIM),
        Part(back, TRIM),
        Part(body, BODY),
        *(Part(stripe, SPOT, rng.uniform(0.06, 0.1)) for stripe in stripes),
        Part(round_corners((-0.3, 0.1), (0.1, 0.12), (0.2, 0.38), (-0.05, 0.36)), TRIM),
        Part(_arc(-0.62, -0.12, 0.13, 0.13), PAPER),
        Part(_arc(-0.64, -0.12, 0.065, 0.065), INK),
        Part(_arc(-0.85, 0.02, 0.16, 0.14, 20, 90), INK, 0.035),
    ]


def _flower(rng: Generator) -> Figure:
    petals = int(rng.integers(5, 9))
    heart = rng.uniform(0.15, 0.22)
    phase = rng.uniform(0, 72)
    petal = _arc(0.38, 0, 0.24, 0.9 / petals + 0.05)
    crown = [rotate(petal, phase + 360 * i / petals) - (0, 0.38) for i in range(petals)]
    leaf = round_corners((0, 0.8), (0.12, 0.5), (0.55, 0.35), (0.55, 0.35), (0.42, 0.75))
    return [
        Part(_line((0, -0.3), (0.05, 0.3), (0, 1)), INK, 0.09),
        *_mirrored(Part(leaf, TRIM)),
        *(Part(outline, BODY) for outline in crown),
        Part(_arc(0, -0.38, heart, heart), SPOT),
        Part(_arc(0, -0.38, heart * 0.5, heart * 0.5), PAPER),
    ]


def _home(rng: Generator) -> Figure:
    wide = rng.uniform(0.68, 0.82)
    eaves = rng.uniform(-0.25, -0.02)
    door = rng.uniform(-0.16, 0.16)
    windows = [(x, eaves + 0.2) for x in (-wide * 0.6, wide * 0.6)]
    return [
        Part(_box(0.32, -0.85, 0.52, -0.2), SPOT),
        Part(_box(-wide, eaves, wide, 0.9), BODY),
        Part(_line((-wide - 0.17, eaves), (0, -1), (wide + 0.17, eaves)), TRIM),
        Part(_arc(0, (eaves - 1) * 0.5 + 0.12, 0.13, 0.13), PAPER),
        Part(_box(door - 0.15, 0.35, door + 0.15, 0.9), SPOT),
        Part(_arc(door + 0.08, 0.63, 0.03, 0.03), PAPER),
        *(Part(_box(x - 0.17, y - 0.02, x + 0.17, y + 0.32), PAPER) for x, y in windows),
        *(Part(_line((x, y - 0.02), (x, y + 0.32)), INK, 0.035) for x, y in windows),
        *(Part(_line((x - 0.17, y + 0.15), (x + 0.17, y + 0.15)), INK, 0.035) for x, y in windows),
    ]


def _key(rng: Generator) -> Figure:
    ring = rng.uniform(0.3, 0.38)
    thick = rng.uniform(0.15, 0.2)
    teeth = int(rng.integers(2, 4))
    center = -0.98 + ring + thick / 2
    teeth_x = [0.92 - 0.22 * i for i in range(teeth)]
    return [
        Part(_line((center + ring, 0), (1, 0)), BODY, thick),
        *(Part(_line((x, 0), (x, rng.uniform(0.28, 0.42))), BODY, 0.14) for x in teeth_x),
        Part(_arc(center, 0, ring, ring * rng.uniform(0.9, 1.15)), BODY, thick),
        Part(_box(center + ring + 0.02, -thick * 0.8, center + ring + 0.14, thick * 0.8), TRIM),
        Part(_arc(center - ring, 0, thick * 0.3, thick * 0.3), SPOT),
    ]


def _mushroom(rng: Generator) -> Figure:
    wide = rng.uniform(0.85, 1.0)
    brim = rng.uniform(0.0, 0.15)
    foot = rng.uniform(0.28, 0.42)
    stem = round_corners(
        (-0.2, brim),
        (0.2, brim),
        (0.22, 0.5),
        (foot, 0.95),
        (foot, 0.98),
        (-foot, 0.98),
        (-foot, 0.95),
        (-0.22, 0.5),
    )
    spots = [(0.0, -0.58, 0.17), (-0.5, -0.28, 0.13), (0.5, -0.3, 0.14), (0.06, -0.15, 0.11)]
    size = rng.uniform(0.8, 1.25)
    return [
        Part(stem, PAPER),
        Part(_arc(0, brim + 0.22, 0.3, 0.07), TRIM),
        Part(_arc(0, brim, wide, 0.9, 180, 360), BODY),
        Part(_arc(0, brim, wide, 0.15), BODY),
        Part(_arc(0, brim + 0.02, wide * 0.85, 0.08), TRIM),
        *(Part(_arc(x, y + brim, r * size, r * size * 0.85), SPOT) for x, y, r in spots),
    ]


def _tree(rng: Generator) -> Figure:
    tiers = int(rng.integers(3, 5))
    wide = rng.uniform(0.65, 0.85)
    tops = np.linspace(-1, -0.05, tiers)
    boughs = []
    for i, top in reversed(list(enumerate(tops))):
        half = wide * (0.45 + 0.55 * i / (tiers - 1))
        foot = top + 1.5 / tiers + 0.15
        outline = _line(
            (0, top),
            (half * 0.5, foot - 0.25),
            (half, foot),
            (0, foot + 0.07),
            (-half, foot),
            (-half * 0.5, foot - 0.25),
        )
        garland = _line((-half * 0.8, foot - 0.09), (0, foot - 0.04), (half * 0.8, foot - 0.09))
        boughs += [Part(outline, TRIM if i % 2 else BODY), Part(garland, PAPER, 0.04)]
    return [Part(_box(-0.12, 0.4, 0.12, 1), INK), *boughs, Part(_arc(0, -0.97, 0.09, 0.09), SPOT)]


def _umbrella(rng: Generator) -> Figure:
    brim = rng.uniform(-0.1, 0.05)
    high = rng.uniform(0.7, 0.85)
    scallops = int(rng.integers(5, 8))
    edges = np.linspace(1, -1, scallops + 1)
    hems = [
        _arc((right + left) / 2, brim, (right - left) / 2, 0.13, 0, -180, 12)
        for right, left in pairwise(edges)
    ]

    def panel(inset: int) -> Points:
        return np.concatenate(
            [_arc(0, brim, edges[inset], high, 180, 360), *hems[inset : scallops - inset]]
        )

    panels = [Part(panel(inset), tone) for inset, tone in enumerate((BODY, TRIM, SPOT))]
    hook = np.concatenate(
        [_line((0, brim - high - 0.14), (0, 0.72)), _arc(-0.16, 0.76, 0.16, 0.2, 0, 180, 16)]
    )
    return [Part(hook, INK, 0.08), *panels]


FIGURES: dict[str, Callable[[Generator], Figure]] = {
    "balloon": _balloon,
    "boat": _boat,
    "butterfly": _butterfly,
    "cat": _cat,
    "cup": _cup,
    "fish": _fish,
    "flower": _flower,
    "house": _home,
    "key": _key,
    "mushroom": _mushroom,
    "tree": _tree,
    "umbrella": _umbrella,
}
CLASSES = tuple(FIGURES)
