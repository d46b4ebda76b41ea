"""Draw the synthetic data set, so that everything can be tried without any data.

Twelve kinds of things (`synthetic_figures`) are drawn in flat, bright colors whose proportions
vary, then posed, colored and textured at random, laid on a random background among clutter, lit,
crossed by strokes and covered with noise. Color, position, size and polarity say nothing about
the class, so a linear classifier on pixels fails where a convolutional network succeeds; the
constants below keep that balance. An image is a pure function of (seed, label, number): the same
pixels wherever numpy's generator gives the same numbers. JPEG bytes also depend on the encoder.
"""

import colorsys
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from alexnet.core.console import ProgressFn
from alexnet.core.errors import AlexNetError, require
from alexnet.core.rng import key
from alexnet.data.synthetic_figures import (
    BODY,
    CLASSES,
    FIGURES,
    INK,
    Figure,
    Generator,
    Part,
    Points,
    rotate,
    round_corners,
)

IMAGES_PER_CLASS = 200
JPEG_QUALITY = 90
SHORT_SIDE = (256, 288)  # pixels
ASPECT = (1.0, 1.32)  # long side over short side
SUPERSAMPLING = 2

# The difficulty: what a network has to see through.
FIGURE_SIZE = (0.64, 0.88)  # longer side of the figure's box over the short side of the image
MAX_ROTATION = 16.0  # degrees, either way
STRETCH = 0.15  # either way, of one axis against the other
WARP = 0.04  # of the figure's half size
CONTRAST = (0.30, 0.55)  # luminance between background and figure
BRIGHTER = 0.88  # fraction of the figures that are brighter than the background
TEXTURE = 0.35  # luminance swing of the pattern on the figure
CLUTTER = 12  # shapes behind the figure, at most
STROKES = 2  # strokes in front of the figure, at most
NOISE = (0.01, 0.06)  # standard deviation, of full scale

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def write_images(
    folder: Path,
    per_class: int = IMAGES_PER_CLASS,
    seed: int = 0,
    workers: int = 1,
    progress: ProgressFn | None = None,
) -> None:
    """Write folder/CLASS/00042.jpg for every class and number.

    `progress` is called with (done, all) after each image. The images are written to another
    folder, which is renamed at the end, so a folder that exists is complete. Raises AlexNetError if
    the folder exists, UsageError if a count is below 1.
    """
    require(per_class >= 1, f"{per_class} images per class, expected 1 or more")
    require(workers >= 1, f"{workers} workers, expected 1 or more")
    if folder.exists():
        raise AlexNetError(
            f"{folder}: already exists, expected a new folder: choose another name, or remove it"
        )
    partial_dir = folder.with_name(f"{folder.name}.drawing")
    if partial_dir.exists():  # of a run that was killed
        shutil.rmtree(partial_dir)
    for label in CLASSES:
        (partial_dir / label).mkdir(parents=True)
    jobs = [(label, number) for number in range(per_class) for label in CLASSES]
    with _parallel_map(min(workers, len(jobs))) as parallel_map:
        results = parallel_map(partial(_write_image, partial_dir, seed), jobs)
        for done, _ in enumerate(results, 1):
            if progress:
                progress(done, len(jobs))
    partial_dir.rename(folder)


def draw_image(label: str, number: int, seed: int = 0) -> Image.Image:
    """Return the RGB image of a class and number, 256 to 380 pixels a side.

    Raises UsageError for an unknown class.
    """
    require(label in FIGURES, f"class {label!r}, expected one of {', '.join(CLASSES)}")
    words = key(seed, "embedded", label, number, np.arange(2))
    rng = np.random.Generator(np.random.Philox(key=words))
    width, height = _random_size(rng)
    contrast = rng.uniform(*CONTRAST) * (1 if rng.random() < BRIGHTER else -1)
    luminance = rng.uniform(max(0.1, 0.1 - contrast), min(0.9, 0.9 - contrast))
    scene = _draw_background(rng, width, height, luminance)
    figure = _pose(rng, FIGURES[label](rng), width, height)
    tones = _choose_tones(rng, luminance, contrast)
    _paint_figure(rng, scene, figure, tones)
    _draw_strokes(rng, scene)
    return _expose(rng, scene)


@contextmanager
def _parallel_map(workers: int) -> Iterator[Callable]:
    """Yield a `map` over that many processes, or the builtin one for a single process.

    An interrupt cancels what has not started.
    """
    if workers == 1:
        yield map
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # an interrupt is the parent's to handle
    )
    try:
        yield partial(pool.map, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


def _write_image(folder: Path, seed: int, job: tuple[str, int]) -> None:
    label, number = job
    file = folder / label / f"{number:05d}.jpg"
    draw_image(label, number, seed).save(file, quality=JPEG_QUALITY)


# ---- the parts of an image


def _random_size(rng: Generator) -> tuple[int, int]:
    """Return width and height in pixels."""
    short = int(rng.integers(SHORT_SIDE[0], SHORT_SIDE[1] + 1))
    long = round(short * rng.uniform(*ASPECT))
    return (long, short) if rng.random() < 0.6 else (short, long)


def _random_color(rng: Generator, luminance: float) -> np.ndarray:
    """Return a color of any hue and the given luminance, float32 (3,) in 0 to 1.

    It is darkened or mixed with white to get there.
    """
    rgb = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 1.0), 1.0), np.float32)
    bright = float(rgb @ LUMA)
    if luminance <= bright:
        return rgb * (luminance / bright)
    return rgb + (1 - rgb) * ((luminance - bright) / (1 - bright))


def _choose_tones(rng: Generator, background: float, contrast: float) -> np.ndarray:
    """Return five colors (5, 3): body and trim differ from the background by the contrast.

    The others differ from the body, on which they are drawn.
    """
    level = background + contrast
    trim = level + rng.uniform(-0.12, 0.12)
    spot = level + rng.uniform(-0.25, 0.25)
    ink = level * 0.35
    paper = level + (1 - level) * 0.7
    if abs(ink - background) < 0.15:  # thin lines on the background must be visible
        ink = level * 0.7
    levels = (level, trim, spot, ink, paper)
    return np.array([_random_color(rng, float(np.clip(y, 0.04, 0.97))) for y in levels])


def _cloud_pattern(rng: Generator, width: int, height: int) -> np.ndarray:
    cells = int(rng.integers(3, 12))
    grid = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def _random_pattern(rng: Generator, width: int, height: int) -> np.ndarray:
    """Return float32 (height, width), mostly in 0 to 1.

    A gradient, waves, stripes, checks, dots or clouds.
    """
    kind = int(rng.integers(6))
    if kind == 0:
        return _cloud_pattern(rng, width, height)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    cosine = math.cos(angle)
    sine = math.sin(angle)
    u = x * cosine + y * sine
    v = y * cosine - x * sine
    if kind == 1:
        return (u - u.min()) / (u.max() - u.min())
    frequency = 2 * math.pi / rng.uniform(10, 60)  # a period of 10 to 60 pixels
    a = np.sin(frequency * u)
    if kind == 2:
        return 0.5 + 0.5 * a
    steepness, threshold = {3: (3, 0), 4: (3, 0), 5: (4, 0.4)}[kind]
    if kind > 3:
        a *= np.sin(frequency * v)
    return (0.5 + steepness * (a - threshold)).clip(0, 1)


def _draw_background(rng: Generator, width: int, height: int, level: float) -> Image.Image:
    """Return a pattern between two colors with clouds over it, and clutter of blobs and lines."""
    shifts = rng.uniform(-0.08, 0.08, 2)
    dark, light = (_to_rgb(_random_color(rng, level + shift)) for shift in shifts)
    field = 0.7 * _random_pattern(rng, width, height) + 0.3 * _cloud_pattern(rng, width, height)
    image = ImageOps.colorize(Image.fromarray(_to_uint8(field)), dark, light)
    for _ in range(int(rng.integers(CLUTTER + 1))):
        _draw_clutter(rng, image, level)
    return image


def _draw_clutter(rng: Generator, image: Image.Image, level: float) -> None:
    """Draw a line, or a polygon with sharp or rounded corners."""
    pen = ImageDraw.Draw(image)
    luminance = np.clip(level + rng.uniform(-0.12, 0.12), 0.03, 0.97)
    color = _to_rgb(_random_color(rng, float(luminance)))
    center = rng.uniform(0, image.size)
    offsets = rng.uniform(-1, 1, (int(rng.integers(2, 6)), 2)) * rng.uniform(8, 45)
    corners = center + offsets
    if len(corners) == 2:
        pen.line([tuple(corner) for corner in corners], color, int(rng.integers(2, 9)))
        return
    outline = round_corners(*corners) if rng.random() < 0.6 else corners
    pen.polygon([tuple(corner) for corner in outline], color)


def _to_rgb(color: np.ndarray) -> tuple[int, ...]:
    return tuple(int(c) for c in (color * 255).round())


def _pose(rng: Generator, figure: Figure, width: int, height: int) -> Figure:
    """Warp, stretch, mirror, rotate, scale and move a figure, in pixels.

    Its box is inside the central square.
    """
    outline = np.concatenate([part.points for part in figure])
    wave = rng.uniform(1, 3, (2, 2))
    phase = rng.uniform(0, 2 * np.pi, 2)
    stretch = (rng.choice([-1, 1]) * rng.uniform(1 - STRETCH, 1 + STRETCH), 1)
    angle = rng.uniform(-MAX_ROTATION, MAX_ROTATION)

    def transformed(points: Points) -> Points:
        return rotate((points + WARP * np.sin(points @ wave + phase)) * stretch, angle)

    low = transformed(outline).min(0)
    high = transformed(outline).max(0)
    short = min(width, height)
    size = short * rng.uniform(*FIGURE_SIZE)
    scale = size / (high - low).max()
    slack = (short - (high - low) * scale) / 2 - 6
    center = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * slack
    shift = center - (low + high) / 2 * scale
    return [
        Part(transformed(part.points) * scale + shift, part.tone, part.width * scale)
        for part in figure
    ]


def _paint_figure(rng: Generator, scene: Image.Image, figure: Figure, tones: np.ndarray) -> None:
    """Paint the figure on the scene, with its shadow, its texture and perhaps an outline."""
    outlined = rng.random() < 0.4
    inks = [_to_rgb(tone) for tone in tones]
    large = (scene.width * SUPERSAMPLING, scene.height * SUPERSAMPLING)
    colors = Image.new("RGB", large, inks[INK if outlined else BODY])
    cover = Image.new("L", large)
    brush = ImageDraw.Draw(colors)
    stencil = ImageDraw.Draw(cover)
    for part in figure:
        _draw_part(brush, part, inks[part.tone], inks[INK] if outlined else None)
        _draw_part(stencil, part, 255, 255 if outlined else None)
    colors = colors.reduce(SUPERSAMPLING)
    cover = cover.reduce(SUPERSAMPLING)
    texture = 1 - rng.uniform(0, TEXTURE) * _random_pattern(rng, *scene.size)
    strength = rng.uniform(0, 0.45)
    right = int(rng.integers(-7, 8))
    down = int(rng.integers(-7, 8))
    shadow = cover.filter(ImageFilter.GaussianBlur(5)).point(
        [round(strength * level) for level in range(256)]
    )
    scene.paste((0, 0, 0), (right, down), shadow)
    scene.paste(
        ImageChops.multiply(colors, Image.fromarray(_to_uint8(texture)).convert("RGB")), None, cover
    )


def _draw_part(
    pen: ImageDraw.ImageDraw,
    part: Part,
    fill: tuple[int, ...] | int,
    edge: tuple[int, ...] | int | None,
) -> None:
    """Draw one part on the supersampled canvas: a line, or a polygon and perhaps its edge."""
    points = [tuple(p) for p in part.points * SUPERSAMPLING]
    if part.width:
        pen.line(points, fill, max(2, round(part.width * SUPERSAMPLING)), joint="curve")
        return
    pen.polygon(points, fill)
    if edge is not None:
        pen.line([*points, points[0], points[1]], edge, 2 * SUPERSAMPLING, joint="curve")


def _draw_strokes(rng: Generator, scene: Image.Image) -> None:
    """Draw a few thin curved strokes in front of everything, like twigs or wires."""
    pen = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(STROKES + 1))):
        start, bend, end = rng.uniform(-0.1, 1.1, (3, 2)) * scene.size
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        pen.line(
            [tuple(p) for p in curve],
            _to_rgb(_random_color(rng, rng.uniform(0.1, 0.9))),
            int(rng.integers(2, 6)),
            joint="curve",
        )


def _expose(rng: Generator, scene: Image.Image) -> Image.Image:
    """Return the scene under uneven light, with sensor noise."""
    light = rng.uniform(0.8, 1.15) * (
        1 + rng.uniform(0, 0.5) * (_cloud_pattern(rng, *scene.size) - 0.5)
    )
    exposed = np.asarray(scene, np.float32) * (light / 255)[..., None]
    noise = rng.standard_normal(exposed.shape, np.float32)
    noise *= rng.uniform(*NOISE)
    exposed += noise
    return Image.fromarray(_to_uint8(exposed))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Return values of 0 to 1 as 0 to 255, clipped."""
    scaled = values * 255
    scaled += 0.5
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
