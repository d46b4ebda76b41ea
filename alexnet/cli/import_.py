"""The command import: weights that Caffe or torchvision wrote become a model file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import JSON, PATH, OrderedGroup

if TYPE_CHECKING:
    from alexnet.models.convert.imported import Imported

CLASSES = click.option(
    "--classes", type=PATH, default=None, help="Text file of the classes' names, one a line."
)


@click.group("import", cls=OrderedGroup)
def import_() -> None:
    """Convert weights of Caffe or torchvision to a model file.

    \b
    Example:  alexnet import caffe bvlc_alexnet.caffemodel model.safetensors
    """


@import_.command()
@click.argument("file", type=PATH)
@click.argument("model", type=PATH)
@click.option(
    "--mean",
    type=PATH,
    default=None,
    help="Mean image, a .binaryproto; default: Caffe's mean color.",
)
@CLASSES
@JSON
def caffe(file: Path, model: Path, mean: Path | None, classes: Path | None, as_json: bool) -> None:
    """Convert bvlc_alexnet or bvlc_reference_caffenet.

    FILE is the .caffemodel, MODEL the model file to write.

    \b
    Example:  alexnet import caffe bvlc_alexnet.caffemodel model.safetensors \\
                  --mean imagenet_mean.binaryproto
    """
    from alexnet.models.convert.caffe import import_caffe
    from alexnet.models.convert.imported import read_classes

    names = read_classes(classes) if classes else None
    _print(file, model, import_caffe(file, model, mean, names), as_json)


@import_.command()
@click.argument("file", type=PATH)
@click.argument("model", type=PATH)
@CLASSES
@JSON
def torchvision(file: Path, model: Path, classes: Path | None, as_json: bool) -> None:
    """Convert torchvision's AlexNet, or one trained from it.

    FILE is the .pth, MODEL the model file to write.

    \b
    Example:  alexnet import torchvision alexnet-owt-7be5be79.pth model.safetensors
    """
    from alexnet.models.convert.imported import read_classes
    from alexnet.models.convert.torchvision import import_torchvision

    names = read_classes(classes) if classes else None
    _print(file, model, import_torchvision(file, model, names), as_json)


def _print(file: Path, model: Path, imported: "Imported", as_json: bool) -> None:
    """Print which network a file had."""
    from dataclasses import asdict

    from alexnet.core import console

    if as_json:
        console.print_json({"model": str(model), **asdict(imported)})
        return
    counts = f"{imported.classes:,} classes, {imported.parameters:,} parameters"
    console.print_line(f"{model}: network {imported.recipe}, {counts}, from {file.name}")
