"""The model card, MODEL.md: what a model was trained on, how wrong it is, and what it is not for.

What the model file knows is written, from its recipe, its preprocessing and its provenance; what it
does not know is said to be unknown. The text is in `templates/model_card.md.j2`. Whatever is
inserted is escaped, so that a class called <img onerror=...> or *x* stays a name.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet import __version__
from alexnet.core.atomic_io import write_bytes
from alexnet.core.errors import AlexNetError
from alexnet.data.transforms import Preprocessor
from alexnet.models.model_file import Classifier
from alexnet.recipes.describe import (
    TEST_CROPS,
    Pairs,
    describe_augmentation,
    describe_network,
    describe_training,
)

if TYPE_CHECKING:
    from jinja2 import Environment

CARD_FILE = "MODEL.md"
TITLE = "# {file}: an image classifier"  # how the first line of a card begins
CLASSES_NAMED = 20
SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")  # what Markdown gives a meaning within a line
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class MeasuredError:
    """Errors in percent, and the conditions under which they were measured, in words."""

    top1: float
    top5: float | None
    conditions: str


def write_model_card(
    classifier: Classifier, path: Path, format_name: str, error: MeasuredError | None = None
) -> Path:
    """Write the card of `path`, an exported file or folder of that format; return its path.

    `error` None: the validation error that training recorded, where it did. AlexNetError where the
    card cannot be written.
    """
    card = card_path(path, format_name)
    text = model_card(classifier, path.name, format_name, error)
    write_bytes(card, text.encode(errors="backslashreplace"))  # of names that are not UTF-8
    return card


def card_path(path: Path, format_name: str) -> Path:
    """Return where the card of an exported file or page goes: MODEL.md in its folder.

    Where that is another model's card, or no card at all, it is left alone, and the card is named
    for the file: net.onnx.md. AlexNetError where that is taken too.
    """
    folder = path if format_name == "page" else path.parent
    candidates = (folder / CARD_FILE, folder / f"{path.name}.md")
    for card in candidates:
        if not card.exists() or _is_card_of(card, path.name):
            return card
    raise AlexNetError(
        f"{folder}: found {' and '.join(card.name for card in candidates)}, neither of them the "
        "card of this file; move one away, or leave the card out (--no-card)"
    )


def _is_card_of(card: Path, file: str) -> bool:
    """Return whether a file was written as the card of the exported file of this name."""
    title = TITLE.format(file=escape_markdown(file)).encode()
    with card.open("rb") as content:
        return content.read(len(title)) == title


def model_card(
    classifier: Classifier, file: str, format_name: str, error: MeasuredError | None = None
) -> str:
    """Return the text of the model card of `file`, Markdown."""
    provenance = classifier.provenance
    recipe = classifier.recipe
    side = classifier.preprocessor.input_shape[1]
    is_imported = "imported" in provenance
    return (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            file=file,
            title=Escaped(TITLE.format(file=escape_markdown(file))),
            net=f"{Path(file).stem}.prototxt",
            format=format_name,
            recipe=recipe.name,
            network=describe_network(recipe.network),
            parameters=f"{sum(w.numel() for w in classifier.model.parameters()):,}",
            num_classes=len(classifier.preprocessor.classes),
            classes=_class_list(classifier.preprocessor.classes),
            data=_data(provenance),
            training=[] if is_imported else describe_training(recipe.training),
            augmentation=[] if is_imported else describe_augmentation(recipe.augmentation, side),
            imported=provenance.get("imported"),
            error=error or recorded_error(provenance),
            preprocessing=_preprocessing(classifier.preprocessor),
            license=provenance.get("license"),
            source=provenance.get("source"),
            version=__version__,
        )
    )


def recorded_error(provenance: Mapping[str, Any]) -> MeasuredError | None:
    """Return the validation error that training recorded; None where there is none."""
    top1 = provenance.get("val_top1_error")
    if top1 is None:
        return None
    images = provenance.get("val_images")
    split = f"the val split of {images:,} images" if images else "the val split"
    conditions = (
        f"on {split}, one crop of each image, after epoch {provenance.get('epoch', 'unknown')}, "
        "which was chosen for its error on these images"
    )
    return MeasuredError(top1, provenance.get("val_top5_error"), conditions)


def _data(provenance: Mapping[str, Any]) -> Pairs:
    """Return what is known of the data, as pairs of term and value."""
    if "imported" in provenance:
        return [
            ("Weights", str(provenance["imported"])),
            ("SHA-256 of that file", str(provenance.get("sha256", NOT_RECORDED))),
        ]
    images = provenance.get("train_images")
    return [
        ("Dataset", str(provenance.get("dataset_name") or NOT_RECORDED)),
        ("Training images", NOT_RECORDED if images is None else f"{images:,}"),
        ("Digest of the dataset", str(provenance.get("dataset", NOT_RECORDED))),
    ]


def _class_list(classes: Sequence[str]) -> str:
    """Return the first classes by name, and how many more there are."""
    names = ", ".join(classes[:CLASSES_NAMED])
    more = len(classes) - CLASSES_NAMED
    return f"{names} and {more:,} more" if more > 0 else names


def _preprocessing(preprocessor: Preprocessor) -> Pairs:
    """Return how an image becomes the network's input, as pairs of term and value."""
    config = preprocessor.decode_config
    side = preprocessor.input_shape[1]
    augmentation = preprocessor.augmentation
    rotation = "as the camera recorded it" if config.exif else "none"
    mean = "the mean color" if augmentation.mean == "color" else "the center of the mean image"
    record = "JPEG, quality 95, 4:2:0" if config.encoding == "jpeg" else "none"
    return [
        ("Rotation", rotation),
        ("Transparency", f"laid on the color {config.background}"),
        ("Resizing", f"the short side to {config.size} pixels, {config.filter}; the center square"),
        ("Compression", record),
        ("Colors", "red, green, blue" if config.channels == 3 else "gray (ITU-R 601)"),
        ("Crops at test", f"{side} x {side}; {TEST_CROPS[augmentation.test_crops]}"),
        ("Subtracted", mean),
        ("Multiplied by", f"{augmentation.scale:.6g}"),
    ]


# ---- Markdown


@cache
def _environment() -> "Environment":
    """Return the template environment; everything it inserts is escaped for Markdown."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("alexnet.inference.export") / "templates"

    def read(name: str) -> str:
        return (folder / name).read_text("utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=False,  # of HTML: `finalize` escapes for Markdown, which HTML's would spoil
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["python"] = python_text
    return environment


class Escaped(str):
    """A text that is Markdown already."""


def escape_markdown(value: Any) -> str:
    """Return a value as one line of text that Markdown and HTML show as it is."""
    if isinstance(value, Escaped):
        return value
    return SPECIAL.sub(r"\\\1", html.escape(_one_line(value), quote=False))


def python_text(value: str) -> Escaped:
    """Return a text as Python code that stays on one line and within its block."""
    return Escaped(json.dumps(value).replace("`", "\\u0060"))


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())
