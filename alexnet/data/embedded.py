"""The set of pictures the package draws itself, so that everything can be tried without any data.

Twelve kinds of things are drawn in flat, bright colours: each a short list of polygons and lines whose proportions vary, then
posed, coloured and textured at random, laid on a random ground among clutter, lit, crossed by strokes and covered with noise.
Colour, place, size and polarity tell nothing of the class, so a linear classifier on pixels fails where a convolutional net
succeeds; the constants below hold that balance. A picture is a pure function of (seed, label, number). The same pixels come
back wherever numpy's generator draws the same numbers; JPEG bytes also depend on the encoder. Nothing here knows of stores.
"""

import colorsys
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from alexnet.errors import AlexNetError, UsageError
from alexnet.randomness import key

PER_CLASS = 200
QUALITY = 90
SHORT_SIDE = (256, 288)  # pixels
ASPECT = (1.0, 1.32)  # long side over short side
SUPERSAMPLING = 2

# The difficulty: what a net has to see through.
FIGURE = (0.64, 0.88)  # longer side of the figure's box over the short side of the picture
TURN = 16.0  # degrees either way
STRETCH = 0.15  # either way, of one axis against the other
WARP = 0.04  # of the figure's half size
CONTRAST = (0.30, 0.55)  # luminance between ground and figure
BRIGHT = 0.88  # share of the figures that are brighter than their ground
TEXTURE = 0.35  # luminance swing of the pattern on the figure
CLUTTER = 12  # shapes behind the figure, at most
STROKES = 2  # strokes before the figure, at most
NOISE = (0.01, 0.06)  # standard deviation, of full scale

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BODY, TRIM, SPOT, INK, PAPER = range(5)  # the tones of a figure

Generator = np.random.Generator
Points = np.ndarray  # float64, n × 2: x to the right, y downwards, about -1 to 1


@dataclass(frozen=True)
class Part:
    """One piece of a figure: a filled polygon, or with a width the line through its points."""

    points: Points
    tone: int
    width: float = 0.0


Figure = list[Part]


def draw(
    folder: Path,
    per_class: int = PER_CLASS,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write folder/CLASS/00042.jpg for every class and number; progress(done, total) is called after each picture.

    The pictures are drawn beside the folder and renamed at the end, so a folder that exists is complete; what a killed
    drawing left is overwritten. Raises AlexNetError if the folder exists, UsageError if a count is below 1.
    """
    if per_class < 1 or workers < 1:
        raise UsageError(f"found {per_class} pictures per class and {workers} workers; both must be 1 or more")
    if folder.exists():
        raise AlexNetError(f"{folder} exists; expected a new folder to draw into: name another, or delete it")
    aside = folder.with_name(folder.name + ".drawing")
    if aside.exists():
        shutil.rmtree(aside)
    for label in CLASSES:
        (aside / label).mkdir(parents=True)
    jobs = [(label, number) for number in range(per_class) for label in CLASSES]
    with _mapper(min(workers, len(jobs))) as each:
        for done, _ in enumerate(each(partial(_write, aside, seed), jobs), 1):
            progress(done, len(jobs))
    aside.rename(folder)


def picture(label: str, number: int, seed: int = 0) -> Image.Image:
    """The RGB picture of that class and number, 256 to 380 pixels a side. Raises UsageError on an unknown class."""
    if label not in FIGURES:
        raise UsageError(f"found the class {label!r}; expected one of {', '.join(CLASSES)}")
    rng = np.random.Generator(np.random.Philox(key=key(seed, "embedded", label, number, np.arange(2))))
    width, height = _canvas(rng)
    contrast = rng.uniform(*CONTRAST) * (1 if rng.random() < BRIGHT else -1)
    ground = rng.uniform(max(0.1, 0.1 - contrast), min(0.9, 0.9 - contrast))
    scene = _ground(rng, width, height, ground)
    figure = _pose(rng, FIGURES[label](rng), width, height)
    tones = _tones(rng, ground, contrast)
    _lay(rng, scene, figure, tones)
    _cross(rng, scene)
    return _expose(rng, scene)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    """A `map` over that many processes; in one process there is nothing to start. An interrupt drops what is not begun."""
    if workers == 1:
        yield map
        return
    quiet = (signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=signal.signal, initargs=quiet)
    try:
        yield partial(pool.map, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


def _write(folder: Path, seed: int, job: tuple[str, int]) -> None:
    label, number = job
    picture(label, number, seed).save(folder / label / f"{number:05d}.jpg", quality=QUALITY)


# ---- outlines


def _arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, count: int = 40) -> Points:
    """Points along an ellipse, from start to end in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, count))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def _line(*corners: tuple[float, float]) -> Points:
    return np.array(corners, float)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return _line((left, top), (right, top), (right, bottom), (left, bottom))


def _round(*corners: tuple[float, float]) -> Points:
    """A closed polygon with its corners cut three times (Chaikin), which is nearly a quadratic spline."""
    points = np.array(corners, float)
    for _ in range(3):
        following = np.roll(points, -1, 0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    return points


def _turned(points: Points, degrees: float) -> Points:
    angle = np.radians(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _mirrored(*parts: Part) -> Figure:
    """Each part and its mirror image across the vertical axis."""
    return [side for part in parts for side in (part, replace(part, points=part.points * (-1, 1)))]


# ---- the twelve figures


def _balloon(rng: Generator) -> Figure:
    wide, neck = rng.uniform(0.62, 0.78), rng.uniform(0.14, 0.22)

    def envelope(share: float) -> Points:
        w, n = wide * share, neck * share
        return np.concatenate([_arc(0, -0.35, w, 0.65, 170, 370), _line((n, 0.48), (-n, 0.48))])

    gores = [Part(envelope(share), tone) for share, tone in ((1, BODY), (0.66, TRIM), (0.3, BODY))]
    ropes = _mirrored(Part(_line((neck, 0.48), (0.15, 0.78)), INK, 0.03))
    belt = Part(_line((-wide, -0.3), (0, -0.2), (wide, -0.3)), SPOT, rng.uniform(0.06, 0.14))
    return [*ropes, *gores, belt, Part(_box(-0.18, 0.74, 0.18, 1), SPOT)]


def _boat(rng: Generator) -> Figure:
    mast, deck, bow = rng.uniform(-0.15, 0.1), rng.uniform(0.38, 0.5), rng.uniform(0.85, 1.0)
    hull = _round((-0.95, deck), (-0.95, deck), (bow, deck), (bow, deck), (0.6, 0.95), (-0.65, 0.95), (-0.75, 0.9))
    band = _line((-0.84, deck + 0.14), (0.86, deck + 0.14))
    mainsail = _round(
        (mast - 0.06, -0.8), (mast - 0.06, -0.8), (mast - 0.06, deck - 0.1), (-0.85, deck - 0.1), (-0.85, deck - 0.1)
    )
    jib = _round((mast + 0.06, -0.65), (mast + 0.06, -0.65), (0.85, deck - 0.1), (0.85, deck - 0.1), (mast + 0.06, deck - 0.1))
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
    span, low, dot = rng.uniform(0.85, 1.0), rng.uniform(0.6, 0.85), rng.uniform(0.1, 0.16)
    upper = _round((0.02, -0.05), (0.25, -0.75), (span, -0.95), (span, -0.3), (0.6, 0.05), (0.05, 0.1))
    lower = _round((0.02, 0.0), (0.6, 0.02), (low, 0.35), (low * 0.75, 0.9), (0.3, 0.75), (0.03, 0.3))
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
    cheek, ear, slit = rng.uniform(0.82, 0.95), rng.uniform(0.85, 1.0), rng.uniform(0.04, 0.1)
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
    foot, depth = rng.uniform(0.3, 0.5), rng.uniform(0.62, 0.8)
    body = np.concatenate([_line((-0.65, -0.3), (0.65, -0.3)), _arc(0, depth - 0.25, foot + 0.1, 0.25, 0, 180)])
    rise = np.linspace(0, 1, 16)
    steam = [np.stack([x + 0.07 * np.sin(7 * rise), -0.54 - 0.46 * rise], 1) for x in (-0.28, 0.0, 0.28)]
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
    deep, tail = rng.uniform(0.42, 0.6), rng.uniform(0.4, 0.62)
    body = _round((-1, 0.05), (-0.7, -deep), (0.1, -deep * 1.1), (0.62, -0.08), (0.62, 0.1), (0.1, deep * 1.1), (-0.7, deep))
    fan = _round((0.5, 0), (0.6, -0.1), (1.05, -tail), (1.05, -tail), (0.86, 0), (1.05, tail), (1.05, tail), (0.6, 0.1))
    back = _round((-0.4, -deep * 0.8), (-0.1, -deep - 0.42), (0.3, -deep - 0.25), (0.4, -deep * 0.4))
    stripes = [_arc(x - 0.5, 0, 0.5, deep * 1.1, -35, 35) for x in (-0.1, 0.14, 0.36)]
    return [
        Part(fan, TRIM),
        Part(back, TRIM),
        Part(body, BODY),
        *(Part(stripe, SPOT, rng.uniform(0.06, 0.1)) for stripe in stripes),
        Part(_round((-0.3, 0.1), (0.1, 0.12), (0.2, 0.38), (-0.05, 0.36)), TRIM),
        Part(_arc(-0.62, -0.12, 0.13, 0.13), PAPER),
        Part(_arc(-0.64, -0.12, 0.065, 0.065), INK),
        Part(_arc(-0.85, 0.02, 0.16, 0.14, 20, 90), INK, 0.035),
    ]


def _flower(rng: Generator) -> Figure:
    petals, heart, phase = int(rng.integers(5, 9)), rng.uniform(0.15, 0.22), rng.uniform(0, 72)
    petal = _arc(0.38, 0, 0.24, 0.9 / petals + 0.05)
    crown = [_turned(petal, phase + 360 * i / petals) - (0, 0.38) for i in range(petals)]
    leaf = _round((0, 0.8), (0.12, 0.5), (0.55, 0.35), (0.55, 0.35), (0.42, 0.75))
    return [
        Part(_line((0, -0.3), (0.05, 0.3), (0, 1)), INK, 0.09),
        *_mirrored(Part(leaf, TRIM)),
        *(Part(outline, BODY) for outline in crown),
        Part(_arc(0, -0.38, heart, heart), SPOT),
        Part(_arc(0, -0.38, heart * 0.5, heart * 0.5), PAPER),
    ]


def _house(rng: Generator) -> Figure:
    wide, eaves, door = rng.uniform(0.68, 0.82), rng.uniform(-0.25, -0.02), rng.uniform(-0.16, 0.16)
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
    ring, thick, teeth = rng.uniform(0.3, 0.38), rng.uniform(0.15, 0.2), int(rng.integers(2, 4))
    centre = -0.98 + ring + thick / 2
    cuts = [0.92 - 0.22 * i for i in range(teeth)]
    return [
        Part(_line((centre + ring, 0), (1, 0)), BODY, thick),
        *(Part(_line((x, 0), (x, rng.uniform(0.28, 0.42))), BODY, 0.14) for x in cuts),
        Part(_arc(centre, 0, ring, ring * rng.uniform(0.9, 1.15)), BODY, thick),
        Part(_box(centre + ring + 0.02, -thick * 0.8, centre + ring + 0.14, thick * 0.8), TRIM),
        Part(_arc(centre - ring, 0, thick * 0.3, thick * 0.3), SPOT),
    ]


def _mushroom(rng: Generator) -> Figure:
    wide, brim, foot = rng.uniform(0.85, 1.0), rng.uniform(0.0, 0.15), rng.uniform(0.28, 0.42)
    stem = _round((-0.2, brim), (0.2, brim), (0.22, 0.5), (foot, 0.95), (foot, 0.98), (-foot, 0.98), (-foot, 0.95), (-0.22, 0.5))
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
    tiers, wide = int(rng.integers(3, 5)), rng.uniform(0.65, 0.85)
    tops = np.linspace(-1, -0.05, tiers)
    boughs = []
    for i, top in reversed(list(enumerate(tops))):
        half, foot = wide * (0.45 + 0.55 * i / (tiers - 1)), top + 1.5 / tiers + 0.15
        outline = _line(
            (0, top), (half * 0.5, foot - 0.25), (half, foot), (0, foot + 0.07), (-half, foot), (-half * 0.5, foot - 0.25)
        )
        garland = _line((-half * 0.8, foot - 0.09), (0, foot - 0.04), (half * 0.8, foot - 0.09))
        boughs += [Part(outline, TRIM if i % 2 else BODY), Part(garland, PAPER, 0.04)]
    return [Part(_box(-0.12, 0.4, 0.12, 1), INK), *boughs, Part(_arc(0, -0.97, 0.09, 0.09), SPOT)]


def _umbrella(rng: Generator) -> Figure:
    brim, high, scallops = rng.uniform(-0.1, 0.05), rng.uniform(0.7, 0.85), int(rng.integers(5, 8))
    edges = np.linspace(1, -1, scallops + 1)
    hems = [_arc((right + left) / 2, brim, (right - left) / 2, 0.13, 0, -180, 12) for right, left in pairwise(edges)]

    def panel(inset: int) -> Points:
        return np.concatenate([_arc(0, brim, edges[inset], high, 180, 360), *hems[inset : scallops - inset]])

    panels = [Part(panel(inset), tone) for inset, tone in enumerate((BODY, TRIM, SPOT))]
    hook = np.concatenate([_line((0, brim - high - 0.14), (0, 0.72)), _arc(-0.16, 0.76, 0.16, 0.2, 0, 180, 16)])
    return [Part(hook, INK, 0.08), *panels]


FIGURES: dict[str, Callable[[Generator], Figure]] = {
    "balloon": _balloon,
    "boat": _boat,
    "butterfly": _butterfly,
    "cat": _cat,
    "cup": _cup,
    "fish": _fish,
    "flower": _flower,
    "house": _house,
    "key": _key,
    "mushroom": _mushroom,
    "tree": _tree,
    "umbrella": _umbrella,
}
CLASSES = tuple(FIGURES)


# ---- the scene


def _canvas(rng: Generator) -> tuple[int, int]:
    """Width and height in pixels."""
    short = int(rng.integers(SHORT_SIDE[0], SHORT_SIDE[1] + 1))
    long = round(short * rng.uniform(*ASPECT))
    return (long, short) if rng.random() < 0.6 else (short, long)


def _colour(rng: Generator, luminance: float) -> np.ndarray:
    """Three float32: any hue at the given luminance: darkened towards black or mixed with white to get there."""
    rgb = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 1.0), 1.0), np.float32)
    bright = float(rgb @ LUMA)
    if luminance <= bright:
        return rgb * (luminance / bright)
    return rgb + (1 - rgb) * ((luminance - bright) / (1 - bright))


def _tones(rng: Generator, ground: float, contrast: float) -> np.ndarray:
    """Five colours, 5 × 3: body and trim stand off the ground by the contrast, the rest where they are seen upon them."""
    level = ground + contrast
    trim, spot = level + rng.uniform(-0.12, 0.12), level + rng.uniform(-0.25, 0.25)
    ink, paper = level * 0.35, level + (1 - level) * 0.7
    if abs(ink - ground) < 0.15:  # thin lines on the bare ground must be seen
        ink = level * 0.7
    levels = (level, trim, spot, ink, paper)
    return np.array([_colour(rng, float(np.clip(y, 0.04, 0.97))) for y in levels])


def _clouds(rng: Generator, width: int, height: int) -> np.ndarray:
    cells = int(rng.integers(3, 12))
    grid = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def _pattern(rng: Generator, width: int, height: int) -> np.ndarray:
    """A plain field, height × width, mostly within 0 to 1: gradient, waves, stripes, checks, dots or clouds."""
    kind = int(rng.integers(6))
    if kind == 0:
        return _clouds(rng, width, height)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    if kind == 1:
        return (u - u.min()) / (u.max() - u.min())
    rate = 2 * math.pi / rng.uniform(10, 60)  # a period of 10 to 60 pixels
    a = np.sin(rate * u)
    if kind == 2:
        return 0.5 + 0.5 * a
    steepness, threshold = {3: (3, 0), 4: (3, 0), 5: (4, 0.4)}[kind]
    if kind > 3:
        a *= np.sin(rate * v)
    return (0.5 + steepness * (a - threshold)).clip(0, 1)


def _ground(rng: Generator, width: int, height: int, level: float) -> Image.Image:
    """What lies behind the figure: a pattern between two colours, clouds over it, and clutter of blobs, rods and shards."""
    near, far = (_ink(_colour(rng, level + shift)) for shift in rng.uniform(-0.08, 0.08, 2))
    field = 0.7 * _pattern(rng, width, height) + 0.3 * _clouds(rng, width, height)
    image = ImageOps.colorize(Image.fromarray(_bytes(field)), near, far)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(CLUTTER + 1))):
        colour = _ink(_colour(rng, float(np.clip(level + rng.uniform(-0.12, 0.12), 0.03, 0.97))))
        corners = rng.uniform(0, (width, height)) + rng.uniform(-1, 1, (int(rng.integers(2, 6)), 2)) * rng.uniform(8, 45)
        if len(corners) == 2:
            pen.line([tuple(c) for c in corners], colour, int(rng.integers(2, 9)))
        else:
            pen.polygon([tuple(c) for c in (_round(*corners) if rng.random() < 0.6 else corners)], colour)
    return image


def _ink(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(int(c) for c in (colour * 255).round())


def _pose(rng: Generator, figure: Figure, width: int, height: int) -> Figure:
    """Warp, stretch, mirror, turn, scale and place a figure, in pixels, with its box inside the central square."""
    outline = np.concatenate([part.points for part in figure])
    wave, phase = rng.uniform(1, 3, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    stretch = (rng.choice([-1, 1]) * rng.uniform(1 - STRETCH, 1 + STRETCH), 1)
    angle = rng.uniform(-TURN, TURN)

    def moved(points: Points) -> Points:
        return _turned((points + WARP * np.sin(points @ wave + phase)) * stretch, angle)

    low, high = moved(outline).min(0), moved(outline).max(0)
    short = min(width, height)
    size = short * rng.uniform(*FIGURE)
    scale = size / (high - low).max()
    room = (short - (high - low) * scale) / 2 - 6
    centre = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * room
    shift = centre - (low + high) / 2 * scale
    return [Part(moved(part.points) * scale + shift, part.tone, part.width * scale) for part in figure]


def _lay(rng: Generator, scene: Image.Image, figure: Figure, tones: np.ndarray) -> None:
    """Paint the figure on the scene, with its shadow, its texture and perhaps an outline."""
    outlined = rng.random() < 0.4
    inks = [_ink(tone) for tone in tones]
    large = (scene.width * SUPERSAMPLING, scene.height * SUPERSAMPLING)
    colours, cover = Image.new("RGB", large, inks[INK if outlined else BODY]), Image.new("L", large)
    brush, stencil = ImageDraw.Draw(colours), ImageDraw.Draw(cover)
    for part in figure:
        _stamp(brush, part, inks[part.tone], inks[INK] if outlined else None)
        _stamp(stencil, part, 255, 255 if outlined else None)
    colours, cover = colours.reduce(SUPERSAMPLING), cover.reduce(SUPERSAMPLING)
    texture = 1 - rng.uniform(0, TEXTURE) * _pattern(rng, *scene.size)
    strength, right, down = rng.uniform(0, 0.45), int(rng.integers(-7, 8)), int(rng.integers(-7, 8))
    shadow = cover.filter(ImageFilter.GaussianBlur(5)).point([round(strength * level) for level in range(256)])
    scene.paste((0, 0, 0), (right, down), shadow)
    scene.paste(ImageChops.multiply(colours, Image.fromarray(_bytes(texture)).convert("RGB")), None, cover)


def _stamp(pen: ImageDraw.ImageDraw, part: Part, fill: tuple[int, ...] | int, edge: tuple[int, ...] | int | None) -> None:
    """One part on the supersampled canvas: a line in its width, or a polygon and perhaps its edge."""
    points = [tuple(p) for p in part.points * SUPERSAMPLING]
    if part.width:
        pen.line(points, fill, max(2, round(part.width * SUPERSAMPLING)), joint="curve")
        return
    pen.polygon(points, fill)
    if edge is not None:
        pen.line([*points, points[0], points[1]], edge, 2 * SUPERSAMPLING, joint="curve")


def _cross(rng: Generator, scene: Image.Image) -> None:
    """Draw a few thin curved strokes before everything, as twigs or wires would pass before a lens."""
    pen = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(STROKES + 1))):
        start, bend, end = rng.uniform(-0.1, 1.1, (3, 2)) * scene.size
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        pen.line([tuple(p) for p in curve], _ink(_colour(rng, rng.uniform(0.1, 0.9))), int(rng.integers(2, 6)), joint="curve")


def _expose(rng: Generator, scene: Image.Image) -> Image.Image:
    """The scene under uneven light, with sensor noise."""
    light = rng.uniform(0.8, 1.15) * (1 + rng.uniform(0, 0.5) * (_clouds(rng, *scene.size) - 0.5))
    seen = np.asarray(scene, np.float32) * (light / 255)[..., None]
    noise = rng.standard_normal(seen.shape, np.float32)
    noise *= rng.uniform(*NOISE)
    seen += noise
    return Image.fromarray(_bytes(seen))


def _bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as 0..255; what lies outside is clipped."""
    scaled = values * 255
    scaled += 0.5
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
