"""The command export: every format by its suffix, and what a format cannot be asked."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import alexnet
from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.recipes.presets import get_recipe
from tests.conftest import tiny, tiny_classifier

# What a file needs to be written, and the files that are.
FORMATS = {
    "net.onnx": ("onnx", "onnxruntime", {"net.onnx"}),
    "net.pt2": ("torch-export", "torch", {"net.pt2"}),
    "net.xml": ("openvino", "openvino", {"net.xml", "net.bin"}),
    "net.pth": ("state-dict", "torch", {"net.pth"}),
    "net.pt": ("state-dict", "torch", {"net.pt"}),
    "net.safetensors": ("state-dict", "safetensors", {"net.safetensors"}),
    "net.caffemodel": (
        "caffemodel",
        "torch",
        {"net.caffemodel", "net.prototxt", "net.binaryproto"},
    ),
}


@pytest.fixture(scope="module")
def model(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model file of a small network."""
    classifier = tiny_classifier(tiny(get_recipe("modern")), dataset)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    alexnet.save_model(path, classifier.model, classifier.preprocessor)
    return path


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("file", FORMATS)
def test_the_suffix_names_the_format(file: str, model: Path, tmp_path: Path) -> None:
    format_name, package, files = FORMATS[file]
    pytest.importorskip(package, reason=f"{package} is not installed")
    ended = export(model, tmp_path / file, "--json")
    assert ended.exit_code == 0, ended.output
    report = json.loads(ended.output)
    assert report["format"] == format_name
    assert report["path"] == str(tmp_path / file)
    assert {Path(path).name for path in report["files"]} == files
    assert report["bytes"] == sum((tmp_path / name).stat().st_size for name in files)
    assert (report["agreement"] is None) == (format_name in ("state-dict", "caffemodel"))
    assert names(tmp_path) == files | {"MODEL.md"}
    assert (tmp_path / "MODEL.md").read_text(encoding="utf-8").startswith(f"# {file}: an image")


def test_it_says_what_was_written(model: Path, tmp_path: Path) -> None:
    ended = export(model, tmp_path / "net.caffemodel")
    written, prototxt, mean, usage, same, card = ended.output.splitlines()
    assert written.startswith(f"{tmp_path / 'net.caffemodel'}: caffemodel, ")
    assert prototxt == f"with {tmp_path / 'net.prototxt'}"
    assert mean == f"with {tmp_path / 'net.binaryproto'}"
    assert usage.startswith("The net takes pixels of 0 to 255 in B, G, R")
    assert same == "read back: every weight is the same, bit by bit"
    assert card == f"model card: {tmp_path / 'MODEL.md'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.onyx"], "net.onyx: no format has the suffix .onyx; expected .onnx, .pt2, .xml"),
        (["net"], "no format has the suffix (none)"),
        (["net.pth", "--format", "onnx"], "found the suffix .pth, onnx expects .onnx"),
        (["net.pth", "--int8"], "weights: found int8, but state-dict has no such choice"),
        (["net.pt2", "--output", "conv1"], "outputs: found conv1, but torch-export has no such"),
        (["net.onnx", "--names", "torchvision"], "or the format state-dict"),
        (["net.caffemodel", "--crops", "10"], "crops: found 10, but caffemodel has no such choice"),
        (["net.onnx", "--runtime", "ort.tgz"], "runtime: found ort.tgz, but onnx has no such"),
        (["net.pth", "--check", "photos"], "state-dict: found images to compare on"),
        (["net.pth", "--names", "torchvision"], "torchvision's class holds only that of"),
    ],
)
def test_what_a_format_does_not_have_is_refused(
    arguments: list[str], message: str, model: Path, tmp_path: Path
) -> None:
    file, *options = arguments
    ended = export(model, tmp_path / file, *options)
    assert isinstance(ended.exception, UsageError)
    assert message in str(ended.exception)
    assert not names(tmp_path)


def test_a_model_file_is_not_replaced(model: Path) -> None:
    before = model.read_bytes()
    for file in (model, model.parent / "." / model.name):
        ended = export(model, file)
        assert isinstance(ended.exception, UsageError)
        assert "found a model file" in str(ended.exception)
    assert model.read_bytes() == before and names(model.parent) == {model.name}


def test_names_that_are_not_utf8_are_exported(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    network, preprocess = alexnet.load_model(model)
    classes = ("caf\udce9", *preprocess.classes[1:])
    named = (network, preprocess.with_classes(classes))
    for file in ("net.onnx", "net.pt2", "net.pth"):
        alexnet.export(named, tmp_path / file)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["classes"])) == classes
    assert "caf\\udce9" in (tmp_path / "MODEL.md").read_text(encoding="utf-8")


# ---- the model card


def test_a_card_of_anything_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "MODEL.md").write_text("my own notes", encoding="utf-8")
    for _ in range(2):
        ended = export(model, tmp_path / "net.pth", "--json")
        assert json.loads(ended.output)["card"] == str(tmp_path / "net.pth.md")
    assert (tmp_path / "MODEL.md").read_text(encoding="utf-8") == "my own notes"
    (tmp_path / "net.safetensors.md").touch()
    ended = export(model, tmp_path / "net.safetensors")
    assert isinstance(ended.exception, AlexNetError)
    assert "found MODEL.md and net.safetensors.md, neither of them the card" in str(ended.exception)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_card_is_replaced_by_the_next_one_of_its_file(model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert export(model, tmp_path / "net.pth").exit_code == 0
        assert names(tmp_path) == {"net.pth", "MODEL.md"}


def test_no_card_where_none_is_wanted(model: Path, tmp_path: Path) -> None:
    ended = export(model, tmp_path / "net.pth", "--no-card", "--json")
    assert json.loads(ended.output)["card"] is None
    assert names(tmp_path) == {"net.pth"}
