"""Export a classifier in any of the formats, with the model card beside what was written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alexnet.core.errors import require
from alexnet.inference.export.caffemodel import export_caffemodel
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.model_card import card_path, write_model_card
from alexnet.inference.export.onnx_file import export_onnx
from alexnet.inference.export.openvino_ir import export_openvino
from alexnet.inference.export.options import ExportOptions, Format, require_options
from alexnet.inference.export.page import export_page
from alexnet.inference.export.state_dict import export_state_dict
from alexnet.inference.export.torch_export import export_torch
from alexnet.models.model_file import Classifier, is_model_file

WEIGHTS_ONLY: tuple[Format, ...] = ("state-dict", "caffemodel")


def export_model(
    classifier: Classifier,
    path: Path,
    format: Format,
    options: ExportOptions,
    files: Sequence[Path],
    card: bool,
) -> Exported:
    """Write a classifier on the CPU, in float32, in a format; return what was written.

    `files`: images to compare on, none: images that are drawn. `card`: whether a model card is
    written beside. AlexNetError where the answers differ from the network's, something cannot be
    written, or a package is not installed; UsageError for an option that the format does not have.
    """
    require_options(options, format)
    require(
        not files or format not in WEIGHTS_ONLY,
        f"{format}: found images to compare on; this format holds weights, which are compared bit "
        "by bit, so leave the images out",
    )
    require(
        not is_model_file(path),
        f"{path}: found a model file, which an export holds only a part of; choose another file",
    )
    if card:
        card_path(path, format)  # an error before the work, not after it
    exported = _export(classifier, path, format, options, files)
    if not card:
        return exported
    return replace(exported, card=write_model_card(classifier, path, format))


def _export(
    classifier: Classifier,
    path: Path,
    format: Format,
    options: ExportOptions,
    files: Sequence[Path],
) -> Exported:
    match format:
        case "onnx":
            return export_onnx(classifier, path, options, files)
        case "torch-export":
            return export_torch(classifier, path, options, files)
        case "openvino":
            return export_openvino(classifier, path, options, files)
        case "state-dict":
            return export_state_dict(classifier, path, options)
        case "caffemodel":
            return export_caffemodel(classifier, path, options)
        case "page":
            return export_page(classifier, path, options, files)
