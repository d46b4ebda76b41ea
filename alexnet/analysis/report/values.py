"""The plain values that report templates show: images, tables, figures, examples.

All text in them is plain text; the templates escape it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in the page itself: a data URI, and the text for those who cannot see it."""

    src: str
    alt: str
    is_pixelated: bool = False  # enlarge it without smoothing


@dataclass(frozen=True)
class Table:
    """Rows of text under column names; `foot` is a last row of totals, or empty."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[str] = ()


@dataclass(frozen=True)
class FigureSection:
    """Figures under a note that says what they show."""

    note: str
    figures: Sequence[EmbeddedImage]


@dataclass(frozen=True)
class HeadlineNumber:
    """A large number with its name and a note."""

    value: str
    name: str
    note: str


@dataclass(frozen=True)
class Bar:
    """One of the most likely classes of an image, with a bar as long as its probability."""

    class_name: str
    text: str
    percent: str
    is_true: bool


@dataclass(frozen=True)
class Example:
    """An image of the split with its true class, its file name, and the most likely classes."""

    image: EmbeddedImage
    true_class: str
    file_name: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class ExampleSection:
    """Examples under a note; without examples the note says why there are none."""

    note: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class ConfusionSection:
    """The confusion matrix, and tables where there are too many classes to write it out."""

    note: str
    matrix: EmbeddedImage
    pairs: Table | None = None
    class_errors: Sequence[tuple[str, Table]] = ()


@dataclass(frozen=True)
class RecipeSection:
    """The recipe in words, as a table of layers, as a plot of its schedules, and as JSON."""

    name: str
    network: str
    layers: Table
    augmentation: Sequence[tuple[str, str]]
    training: Sequence[tuple[str, str]]
    schedules: EmbeddedImage
    json: str
