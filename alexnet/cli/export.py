"""The command export: a trained model in a format that other programs run."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from alexnet.cli.options import JSON, MODEL, PATH, parse_crops
from alexnet.core.errors import require
from alexnet.inference.export.options import (
    FORMAT_OPTIONS,
    ExportOptions,
    Format,
    InputKind,
    Names,
    NormForm,
    Weights,
)

if TYPE_CHECKING:
    from alexnet.inference.export.exported import Agreement, Exported


@click.command()
@click.argument("model", type=MODEL)
@click.argument("file", type=PATH)
@click.option(
    "--format",
    type=click.Choice(get_args(Format)),
    default=None,
    help="Default: that of FILE's suffix; a page is a folder and needs it.",
)
@click.option("--half", is_flag=True, help="Weights as float16: half the size.")
@click.option("--int8", is_flag=True, help="Weights as int8, a scale a channel: a quarter.")
@click.option(
    "--input",
    type=click.Choice(["square", "crop"]),
    default="square",
    show_default=True,
    help="Bytes that the model takes: the decoded square, or the crop of it.",
)
@click.option(
    "--no-preprocess",
    is_flag=True,
    help="The model takes the normalized float32 tensor; crop, mean and scale are left out.",
)
@click.option(
    "--crops",
    type=click.Choice(["1", "9", "10"]),
    default="1",
    show_default=True,
    help="Crops of the square that the model averages.",
)
@click.option(
    "--norm",
    type=click.Choice(get_args(NormForm)),
    default="operator",
    show_default=True,
    help="Response norm as the format's operator, or by plain arithmetic.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="LAYER",
    help="Layer whose output is returned as well, such as conv1; may be repeated.",
)
@click.option(
    "--names",
    type=click.Choice(get_args(Names)),
    default="plain",
    show_default=True,
    help="Of a state dict's weights: conv1.weight, or torchvision's features.0.weight.",
)
@click.option(
    "--runtime",
    type=PATH,
    default=None,
    metavar="FILE.tgz",
    help="The npm package onnxruntime-web for a page. Default: the wheel's own.",
)
@click.option(
    "--check",
    "images",
    multiple=True,
    metavar="PATH",
    help="Images to compare on, files or folders; may be repeated. Default: synthetic ones.",
)
@click.option("--no-card", is_flag=True, help="Do not write MODEL.md, the model card.")
@JSON
def export(
    model: Path,
    file: Path,
    format: Format | None,
    half: bool,
    int8: bool,
    input: InputKind,
    no_preprocess: bool,
    crops: str,
    norm: NormForm,
    outputs: tuple[str, ...],
    names: Names,
    runtime: Path | None,
    images: tuple[str, ...],
    no_card: bool,
    as_json: bool,
) -> None:
    """Write a model for other programs.

    MODEL is a model file or a run's directory. FILE's suffix names the format. It is written only
    if it gives the network's answers on the images of --check, or holds its weights bit by bit.
    MODEL.md, written beside, says what the model is.

    \b
    Examples, one for each format:
    ONNX             alexnet export run flowers.onnx --check photos
    torch.export     alexnet export run flowers.pt2
    OpenVINO         alexnet export run flowers.xml --half
    state dict       alexnet export run flowers.pth --names torchvision
                     alexnet export run flowers.safetensors
    Caffe            alexnet export run flowers.caffemodel
    page             alexnet export run flowers --format page
                     python -m http.server --directory flowers

    \b
    Use of ONNX:  session = onnxruntime.InferenceSession("flowers.onnx")
                  square = preprocess.decode_square("cat.jpg")[None]
                  (p,) = session.run(["probabilities"], {"images": square})
    """
    from alexnet import api
    from alexnet.core import console

    options = ExportOptions(
        weights=_weights(half, int8),
        input=_input_kind(input, no_preprocess),
        crops=parse_crops(crops) or 1,
        norm=norm,
        outputs=outputs,
        names=names,
        runtime=runtime,
    )
    exported = api.export(
        model, file, format=format, options=options, images=images, card=not no_card
    )
    if as_json:
        console.print_json(exported.to_json())
        return
    for line in _lines(exported):
        console.print_line(line)


def _weights(half: bool, int8: bool) -> Weights:
    require(not (half and int8), "found --half and --int8; expected one of them")
    if half:
        return "half"
    return "int8" if int8 else "float32"


def _input_kind(kind: InputKind, no_preprocess: bool) -> InputKind:
    require(
        not (no_preprocess and kind == "crop"),
        "found --input crop and --no-preprocess; expected one of them",
    )
    return "tensor" if no_preprocess else kind


def _lines(exported: "Exported") -> list[str]:
    """Return what was written, and how it compares with the network."""
    weights = (
        f", weights {exported.options.weights}"
        if "weights" in FORMAT_OPTIONS[exported.format]
        else ""
    )
    lines = [f"{exported.path}: {exported.format}{weights}, {exported.bytes / 1e6:,.1f} MB"]
    if exported.format != "page":
        lines += [f"with {file}" for file in exported.files[1:]]
    lines += exported.notes
    if exported.agreement is None:
        lines.append("read back: every weight is the same, bit by bit")
    else:
        lines.append(_agreement(exported.agreement))
    if exported.card is not None:
        lines.append(f"model card: {exported.card}")
    return lines


def _agreement(agreement: "Agreement") -> str:
    return (
        f"compared with the network on {agreement.images:,} images: the same class first on "
        f"{agreement.same_top1:,}, probabilities within {agreement.max_difference:.1g}"
    )
