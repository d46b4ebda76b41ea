"""Export to Caffe's files: the weights, the net that uses them, and the mean image.

FILE.caffemodel holds the weights, FILE.prototxt the net for inference, FILE.binaryproto the mean.
The importer reads the weights back bit by bit, which is checked before the files get their names;
Caffe's color channels are blue, green, red, so conv1's and the mean's are reversed here, once.
What Caffe's layers cannot express is refused, in one line.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.core.atomic_io import atomic_write, write_error
from alexnet.core.errors import AlexNetError
from alexnet.data.transforms import Preprocessor
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.options import ExportOptions
from alexnet.models.convert.caffe import Blob, read_blob, read_caffemodel
from alexnet.models.convert.caffe_layers import caffe_layers, to_prototxt
from alexnet.models.convert.caffe_writer import write_caffemodel, write_mean
from alexnet.models.model_file import Classifier

Blobs = dict[str, list[Blob]]


def export_caffemodel(classifier: Classifier, path: Path, options: ExportOptions) -> Exported:
    """Write a model as `path` (.caffemodel), with the .prototxt and the .binaryproto beside it.

    UsageError where Caffe has no such layer, AlexNetError where a file cannot be written.
    """
    model = classifier.model
    preprocessor = classifier.preprocessor
    layers = caffe_layers(model.spec, model.num_classes, preprocessor.augmentation.scale)
    blobs = caffe_blobs(model.state_dict(), preprocessor.decode_config.channels)
    mean = _mean_image(preprocessor)
    net_file = path.with_suffix(".prototxt")
    mean_file = path.with_suffix(".binaryproto")
    name = classifier.recipe.name
    try:
        with (
            atomic_write(path) as weights_written,
            atomic_write(mean_file) as mean_written,
            atomic_write(net_file) as net_written,
        ):
            write_caffemodel(weights_written, name, layers, blobs)
            write_mean(mean_written, mean)
            net_written.write_text(to_prototxt(name, layers), encoding="utf-8")
            _require_equal(path, read_caffemodel(weights_written), blobs)
            _require_equal_mean(mean_file, read_blob(mean_written), mean)
    except OSError as error:
        raise write_error(path, error) from error
    files = (path, net_file, mean_file)
    return Exported(path, "caffemodel", files, options, notes=(_usage(preprocessor),))


def caffe_blobs(weights: Mapping[str, Tensor], channels: int) -> Blobs:
    """Return the weight and the bias of every layer by its name, the colors of the first reversed.

    `weights` by our names, in the order of the layers.
    """
    blobs: Blobs = {}
    for name, tensor in weights.items():
        layer, _, _ = name.rpartition(".")
        is_first = not blobs and channels == 3
        values = tensor.float().cpu()
        blobs.setdefault(layer, []).append((values.flip(1) if is_first else values).numpy())
    return blobs


def _mean_image(preprocessor: Preprocessor) -> np.ndarray:
    """Return what is subtracted from an uncropped image: float32 (S, S, C) in R, G, B."""
    if preprocessor.augmentation.mean == "color":
        return np.broadcast_to(preprocessor.center_mean, preprocessor.mean.shape)
    return preprocessor.mean


def _usage(preprocessor: Preprocessor) -> str:
    size = preprocessor.decode_config.size
    side = preprocessor.input_shape[1]
    order = "B, G, R" if preprocessor.decode_config.channels == 3 else "one channel"
    return (
        f"The net takes pixels of 0 to 255 in {order}, the {side} x {side} center of an image of "
        f"{size} x {size}, less the center of the mean."
    )


def _require_equal(path: Path, actual: Mapping[str, Sequence[Blob]], expected: Blobs) -> None:
    """Raise AlexNetError unless the same weights were read back, bit by bit."""
    read = {name: blobs for name, blobs in actual.items() if blobs}
    wrong = [
        name
        for name in read.keys() | expected.keys()
        if len(read.get(name, ())) != len(expected.get(name, ()))
        or not all(map(np.array_equal, read[name], expected[name]))
    ]
    if wrong:
        raise AlexNetError(f"{path}: not written: {', '.join(wrong)} differ when read back")


def _require_equal_mean(path: Path, actual: Blob, mean: np.ndarray) -> None:
    if not np.array_equal(actual[0, ::-1].transpose(1, 2, 0), mean):
        raise AlexNetError(f"{path}: not written: the mean differs when read back")
