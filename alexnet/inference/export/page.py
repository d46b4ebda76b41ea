"""Export a static page that runs the network in the visitor's browser.

The page is that of the service, with the network in a worker of the browser in place of the service
behind HTTP: the files of `browser/` take the places of those of the same name. The network is an
ONNX file with int8 weights, which ONNX Runtime Web computes. Any web server can serve the folder;
it asks no other host.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from alexnet.analysis.plots.style import DIVERGING
from alexnet.analysis.receptive_field import receptive_field
from alexnet.analysis.saliency import patch_positions
from alexnet.analysis.unit_responses import kernel_images
from alexnet.core.atomic_io import fsync_path, write_error
from alexnet.core.errors import AlexNetError, require
from alexnet.core.extras import import_extra
from alexnet.inference.export.check import Run, check
from alexnet.inference.export.exported import Agreement, Exported
from alexnet.inference.export.onnx_graph import PROBABILITIES, masked_document
from alexnet.inference.export.onnx_preprocessing import IMAGES, MASK
from alexnet.inference.export.options import ExportOptions
from alexnet.inference.export.web_runtime import runtime_files, unpack_runtime
from alexnet.inference.server.model_description import describe_model, layer_kind
from alexnet.inference.server.png import LEVELS, png_url
from alexnet.models.model_file import Classifier, ModelInfo
from alexnet.recipes.layers import AdaptiveAvgPool

if TYPE_CHECKING:
    from onnx import ModelProto

PAGE_FORMAT = "alexnet-page/1"
INDEX = "index.json"  # what the page knows of the model; its `format` marks a folder as a page
MODEL = "model.onnx"
MEAN = "mean.png"
RUNTIME = "onnxruntime"  # the folder of the runtime in the page

OWN_FILES = Path(__file__).with_name("browser")
SERVICE_FILES = Path(__file__).parents[1] / "server" / "web"
SHARED = (
    "answers.js",
    "app.js",
    "base.css",
    "camera.js",
    "dom.js",
    "example.js",
    "files.js",
    "i18n.js",
    "icon.svg",
    "inside",
    "inside.css",
    "inside.js",
    "try.css",
    "try.js",
)
MARKUP = "index.html"
CHARSET = '  <meta charset="utf-8">'
POLICY = """\
  <meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; \
media-src blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'">
  <meta name="referrer" content="no-referrer">"""
API_LINK = '<a href="docs" data-text="api"></a>'
PRIVATE = '<span class="soft" data-text="private"></span>'
ONE_CROP = "It looks at the center of an image, as `alexnet predict --crops 1` does."
OCCLUSION_POSITIONS = 15  # the patch moves by this part of the crop's side
# Layers whose outputs the page shows, as the service does
SHOWN = ("conv", "local", "linear", "norm", "pool")


def export_page(
    classifier: Classifier, path: Path, options: ExportOptions, files: Sequence[Path]
) -> Exported:
    """Write a page as the folder `path`; it replaces a page that is there.

    Its network is checked in ONNX Runtime on the images `files`, or on synthetic ones, before the
    folder gets its name. UsageError where the folder holds anything else, AlexNetError where the
    answers differ from the network's, it cannot be written, the packages of the extra `onnx` are
    not installed, or there is no runtime for browsers.
    """
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
            folder = Path(temporary) / path.name
            agreement = _write_page(classifier, folder, options.runtime, files)
            _replace_folder(folder, path)
    except OSError as error:
        raise write_error(path, error) from error
    written = tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    return Exported(path, "page", written, options, agreement, (ONE_CROP,))


def _write_page(
    classifier: Classifier, folder: Path, runtime: Path | None, files: Sequence[Path]
) -> Agreement:
    """Write a new folder; return how its network agrees with the native one."""
    onnxruntime = import_extra("onnxruntime", "onnx")
    copy_page(folder)
    copy_runtime(folder / RUNTIME, runtime)
    network = network_options(classifier)
    document = masked_document(classifier, network)
    (folder / MODEL).write_bytes(document.SerializeToString(deterministic=True))
    mean_image(classifier).save(folder / MEAN)
    index = page_index(classifier, network, document)
    (folder / INDEX).write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    run = _runner(onnxruntime, folder / MODEL, classifier.preprocessor.input_shape[1])
    return check(classifier, network, run, files)


def require_replaceable(path: Path) -> None:
    """UsageError unless a folder is a page, empty, or not there."""
    if not path.exists():
        return
    require(path.is_dir(), f"{path}: found a file, expected a folder for the page")
    names = sorted(entry.name for entry in path.iterdir())
    require(
        not names or _is_page(path),
        f"{path}: found a folder with {', '.join(names[:3])}{' ...' if names[3:] else ''} that is "
        "no page of ours; expected a new or an empty folder",
    )


def _is_page(path: Path) -> bool:
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("format") == PAGE_FORMAT


# ---- files


def copy_page(folder: Path) -> None:
    """Copy the page's HTML, CSS and JavaScript into a new folder."""
    folder.mkdir()
    for name in SHARED:
        source = SERVICE_FILES / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    markup = page_markup((SERVICE_FILES / MARKUP).read_text(encoding="utf-8"))
    (folder / MARKUP).write_text(markup, encoding="utf-8")
    shutil.copytree(OWN_FILES, folder, dirs_exist_ok=True)


def page_markup(markup: str) -> str:
    """Return the service's HTML for a server that sends no headers and answers nothing itself."""
    for service, page in ((CHARSET, f"{CHARSET}\n{POLICY}"), (API_LINK, PRIVATE)):
        assert service in markup, f"the service's {MARKUP} has no {service}"
        markup = markup.replace(service, page)
    return markup


def copy_runtime(folder: Path, archive: Path | None) -> None:
    """Copy the runtime's files into a new folder: this package's, or those of the npm package."""
    folder.mkdir()
    if archive is None:
        files = runtime_files()
    elif archive.is_file():
        files = unpack_runtime(archive, folder)
    else:
        raise AlexNetError(f"{archive}: not found, expected the npm package as a .tgz file")
    for name, file in files.items():
        if file.parent != folder:
            shutil.copyfile(file, folder / name)


def _replace_folder(folder: Path, path: Path) -> None:
    """Move a folder to `path`; what is there is moved beside the folder, to be removed with it."""
    for file in folder.rglob("*"):
        if file.is_file():
            fsync_path(file)
    if path.exists():
        path.rename(folder.with_name("replaced"))
    folder.rename(path)
    fsync_path(path.parent)


# ---- the network


def network_options(classifier: Classifier) -> ExportOptions:
    """Return how the network of a page is exported: small, fast in browsers, its layers shown."""
    model = classifier.model
    shown = tuple(
        name
        for name, shape in zip(model.names, model.shapes, strict=True)
        if layer_kind(shape.layer) in SHOWN and not isinstance(shape.layer, AdaptiveAvgPool)
    )
    return ExportOptions(weights="int8", norm="plain", outputs=shown)


def page_index(
    classifier: Classifier, network: ExportOptions, document: "ModelProto"
) -> dict[str, Any]:
    """Return what the page knows of the model: what the service says, and how to use the file."""
    preprocessor = classifier.preprocessor
    config = preprocessor.decode_config
    info = ModelInfo(classifier.recipe, config, preprocessor.classes, classifier.provenance)
    name = classifier.recipe.name
    patch, corners = patch_positions(preprocessor.input_shape[1], OCCLUSION_POSITIONS)
    model = describe_model(name, info) | {
        "dataset": False,
        "neighbors": False,
        "methods": ["occlusion"],
    }
    return {
        "format": PAGE_FORMAT,
        "default": name,
        "training": None,
        "models": [model],
        "bytes": document.ByteSize(),
        "decode_config": config.to_json(),
        "square": [config.size, config.size, config.channels],
        "outputs": network.outputs,
        "occlusion": {"patch": patch, "corners": corners},
        "kernels": kernel_urls(classifier),
        "fields": {layer: row_fields(classifier, layer) for layer in network.outputs},
        "palette": DIVERGING(np.linspace(0, 1, LEVELS), bytes=True)[:, :3].tolist(),
    }


def kernel_urls(classifier: Classifier) -> list[str]:
    """Return the kernels of a first convolution as pictures; none for another first layer."""
    kernels = kernel_images(classifier.model, classifier.model.names[0])
    return [] if kernels is None else [png_url(kernel) for kernel in kernels]


def row_fields(classifier: Classifier, layer: str) -> list[tuple[int, int]]:
    """Return for each row of a layer's output the first pixel it sees, and the one after the last.

    Those of the columns are the same, as inputs and windows are squares.
    """
    shapes = classifier.model.shapes
    height = next(shape.out_shape[1] for shape in shapes if shape.name == layer)
    boxes = [receptive_field(shapes, layer, row).box for row in range(height)]
    return [(box.top, box.bottom) for box in boxes]


def mean_image(classifier: Classifier) -> Image.Image:
    """Return what is subtracted from the crop, as a picture of the crop's size."""
    preprocessor = classifier.preprocessor
    channels, height, width = preprocessor.input_shape
    mean = np.broadcast_to(preprocessor.center_mean, (height, width, channels))
    levels = np.rint(mean).astype(np.uint8)
    return Image.fromarray(levels if channels == 3 else levels[..., 0])


def _runner(onnxruntime: Any, path: Path, side: int) -> Run:
    """Return a function from squares to probabilities, in ONNX Runtime, nothing covered."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    mask = np.ones((1, 1, side, side), np.float32)

    def run(squares: np.ndarray) -> np.ndarray:
        rows = [session.run([PROBABILITIES], {IMAGES: one[None], MASK: mask})[0] for one in squares]
        return np.concatenate(rows)

    return run
