"""What an export is asked for, which formats there are, and what each of them can be asked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from alexnet.core.errors import require

Format = Literal["onnx", "torch-export", "openvino", "state-dict", "caffemodel", "page"]
Weights = Literal["float32", "half", "int8"]
InputKind = Literal["square", "crop", "tensor"]
NormForm = Literal["operator", "plain"]
ExportCrops = Literal[1, 9, 10]
Names = Literal["plain", "torchvision"]

# A page is a folder, of any name.
SUFFIXES: Mapping[str, Format] = {
    ".onnx": "onnx",
    ".pt2": "torch-export",
    ".xml": "openvino",
    ".pth": "state-dict",
    ".pt": "state-dict",
    ".safetensors": "state-dict",
    ".caffemodel": "caffemodel",
}

# The fields of ExportOptions that a format has.
FORMAT_OPTIONS: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("weights", "input", "crops", "norm", "outputs"),
    "torch-export": ("input", "crops"),
    "openvino": ("weights", "input", "crops", "norm", "outputs"),
    "state-dict": ("names",),
    "caffemodel": (),
    "page": ("runtime",),
}


@dataclass(frozen=True)
class ExportOptions:
    """How a network is exported.

    `weights`: stored as float32, as float16 (`half`), or as int8 with a scale for each output
    channel or unit; the arithmetic is float32 in each case. `input`: a `square` uint8 (N, S, S, C)
    as the preprocessor decodes images, a `crop` of it uint8 (N, H, W, C), or the normalized
    `tensor` float32 (N, C, H, W). `crops`: 1, or the softmax averaged over 9 or 10 crops of the
    square. `norm`: response normalization as the format's own operator, or by `plain` arithmetic.
    `outputs`: layers, by their module's name, whose outputs are wanted as well. `names`: of the
    weights in a state dict, this package's (`plain`) or torchvision's. `runtime`: the npm package
    of ONNX Runtime Web, which runs the network of a page; None: the one that comes with the wheel.

    A format has some of these (`FORMAT_OPTIONS`); the others keep their defaults.
    """

    weights: Weights = "float32"
    input: InputKind = "square"
    crops: ExportCrops = 1
    norm: NormForm = "operator"
    outputs: tuple[str, ...] = ()
    names: Names = "plain"
    runtime: Path | None = None

    def __post_init__(self) -> None:
        _require_choice("weights", self.weights, get_args(Weights))
        _require_choice("input", self.input, get_args(InputKind))
        _require_choice("crops", self.crops, get_args(ExportCrops))
        _require_choice("norm", self.norm, get_args(NormForm))
        _require_choice("names", self.names, get_args(Names))
        require(
            self.crops == 1 or self.input == "square",
            f"{self.crops} crops are cut from the square; "
            f"found input={self.input}, expected input=square or one crop",
        )
        require(
            self.crops == 1 or not self.outputs,
            f"outputs={','.join(self.outputs)}: with {self.crops} crops a layer has as many "
            "outputs an image; expected one crop",
        )


def choose_format(path: Path, format: Format | None) -> Format:
    """Return a format, by default the one that the file's suffix stands for.

    UsageError for an unknown one, or one whose files have another suffix.
    """
    suffix = path.suffix.lower()
    if format is None:
        require(
            suffix in SUFFIXES,
            f"{path}: no format has the suffix {suffix or '(none)'}; expected "
            f"{', '.join(SUFFIXES)}, or --format page for a folder",
        )
        return SUFFIXES[suffix]
    _require_choice("format", format, get_args(Format))
    expected = [each for each, its_format in SUFFIXES.items() if its_format == format]
    require(
        suffix in expected or not expected,
        f"{path}: found the suffix {suffix or '(none)'}, {format} expects {' or '.join(expected)}",
    )
    return format


def require_options(options: ExportOptions, format: Format) -> None:
    """UsageError for an option that a format does not have."""
    available = FORMAT_OPTIONS[format]
    for field in fields(options):
        value = getattr(options, field.name)
        formats = [each for each, names in FORMAT_OPTIONS.items() if field.name in names]
        require(
            field.name in available or value == field.default,
            f"{field.name}: found {_text(value)}, but {format} has no such choice; "
            f"expected the default, or the format {' or '.join(formats)}",
        )


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    expected = ", ".join(map(str, choices))
    require(value in choices, f"{name}: found {value}, expected one of {expected}")
