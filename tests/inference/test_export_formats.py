"""Exports to other programs: the same answers or the same weights, in files that stand alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import ColorStats, PreparedDataset
from alexnet.data.transforms import Preprocessor
from alexnet.inference.export import openvino_ir, state_dict, torch_export
from alexnet.inference.export.caffemodel import export_caffemodel
from alexnet.inference.export.onnx_graph import onnx_document
from alexnet.inference.export.openvino_ir import export_openvino
from alexnet.inference.export.options import ExportOptions
from alexnet.inference.export.state_dict import export_state_dict
from alexnet.inference.export.torch_export import METADATA_ENTRY, export_torch
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.convert import caffe, torchvision
from alexnet.models.convert.caffe import import_caffe
from alexnet.models.convert.torchvision import import_torchvision, to_state_dict
from alexnet.models.model_file import Classifier, read_model_file
from alexnet.recipes.layers import NUM_CLASSES, Linear
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Augmentation, Network, Recipe
from tests.conftest import shrunk_layer, tiny, tiny_classifier
from tests.helpers.caffe_files import narrow, random_weights
from tests.helpers.caffe_net import read_blobs, read_mean, read_net, run_net
from tests.helpers.torchvision_net import CLASSES, Theirs

PLAIN = ExportOptions()
TORCHVISION = ExportOptions(names="torchvision")


@pytest.fixture(autouse=True)
def narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the imported recipes few hidden units, so that their files are small."""
    for module in (caffe, torchvision, state_dict):
        monkeypatch.setattr(module, "get_recipe", lambda name: narrow(get_recipe(name)))


def classifier_of(recipe: Recipe, mean: np.ndarray, classes: int = CLASSES) -> Classifier:
    """Return a classifier with random weights; `mean` (S, S, C) is its mean image."""
    size, _, channels = mean.shape
    color = ColorStats(mean.mean((0, 1)), np.zeros(channels), np.eye(channels))
    names = tuple(f"class {index}" for index in range(classes))
    config = DecodeConfig(size=size, channels=channels, encoding="raw")
    preprocessor = Preprocessor(
        config, recipe.network.input, recipe.augmentation, names, mean, color
    )
    model = AlexNet(recipe.network, classes)
    weights = random_weights(recipe, classes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return Classifier(model.eval().requires_grad_(False), preprocessor, recipe, {"seed": 1})


def random_mean(size: int, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(2)
    return generator.uniform(90, 140, (size, size, channels)).astype(np.float32)


def random_records(classifier: Classifier, count: int = 3) -> np.ndarray:
    config = classifier.preprocessor.decode_config
    shape = (count, config.size, config.size, config.channels)
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


# ---- torch.export


@pytest.mark.parametrize("name", ["original", "modern", "separate", "cifar-11pct"])
def test_a_torch_export_answers_like_the_model(name: str, tmp_path: Path) -> None:
    recipe = small(name)
    channels, side, _ = recipe.network.input
    classifier = classifier_of(recipe, random_mean(side + 5, channels))
    summary = export_torch(classifier, tmp_path / "model.pt2", ExportOptions(crops=10), [])
    assert summary.agreement is not None and summary.agreement.max_difference < 1e-5
    entries = {METADATA_ENTRY: ""}
    loaded = torch.export.load(tmp_path / "model.pt2", extra_files=entries).module()
    assert json.loads(entries[METADATA_ENTRY])["classes"] == list(classifier.preprocessor.classes)
    records = random_records(classifier, 7)
    crops = classifier.preprocessor.ten_crops(records)
    inputs = classifier.preprocessor.normalize(crops.reshape(-1, *crops.shape[2:]))
    expected = classifier.model(inputs).softmax(1).unflatten(0, (7, 10)).mean(1)
    outputs = loaded(torch.from_numpy(records))
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-6)
    alone = torch.cat([loaded(torch.from_numpy(record[None])) for record in records])
    torch.testing.assert_close(alone, outputs, rtol=1e-5, atol=1e-6)


LOAD_ALONE = """
import sys
sys.modules["alexnet"] = None  # importing it fails
import torch
model = torch.export.load(sys.argv[1]).module()
images = torch.load(sys.argv[2], weights_only=True)
torch.save(model(images), sys.argv[2])
operations = {str(node.target) for node in model.graph.nodes if node.op == "call_function"}
assert all(name.startswith(("aten.", "<built-in")) for name in operations), operations
"""


def test_a_torch_export_loads_without_this_package(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    classifier = tiny_classifier(tiny(get_recipe("original")), dataset)
    path = tmp_path / "model.pt2"
    export_torch(classifier, path, ExportOptions(input="tensor"), [])
    crops = classifier.preprocessor.center_crop(random_records(classifier))
    normalized = classifier.preprocessor.normalize(crops)
    torch.save(normalized, tmp_path / "images")
    words = [sys.executable, "-c", LOAD_ALONE, str(path), str(tmp_path / "images")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = torch.load(tmp_path / "images", weights_only=True)
    expected = classifier.model(normalized)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_wrong_torch_export_is_not_written(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = tiny_classifier(tiny(get_recipe("modern")), dataset)
    wrong = replace(classifier, model=init_weights(AlexNet(classifier.model.spec, 7), 5).eval())
    traced = torch_export._traced
    monkeypatch.setattr(torch_export, "_traced", lambda _, options: traced(wrong, options))
    with pytest.raises(AlexNetError, match="differs from the network"):
        export_torch(classifier, tmp_path / "model.pt2", PLAIN, [])
    assert not list(tmp_path.iterdir())


# ---- OpenVINO


def linear_classifier() -> Classifier:
    """Return a classifier of one fully connected layer on 8 x 8 pixels, cut from 10 x 10."""
    network = Network(input=(3, 8, 8), layers=(Linear("fc1", NUM_CLASSES, init_std=0.01),))
    recipe = Recipe("linear", network, Augmentation(scale=1 / 64, test_crops=1))
    return classifier_of(recipe, random_mean(10))


def test_openvinos_files_answer_like_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    classifier = linear_classifier()
    path = tmp_path / "model.xml"
    summary = export_openvino(classifier, path, PLAIN, [])
    assert summary.files == (path, tmp_path / "model.bin")
    assert sorted(tmp_path.iterdir()) == sorted(summary.files)
    records = random_records(classifier, 7)
    inputs = classifier.preprocessor.normalize(classifier.preprocessor.center_crop(records))
    expected = classifier.model(inputs).softmax(1).numpy()
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.allclose(compiled([records])["probabilities"], expected, rtol=1e-4, atol=1e-6)
    for file in summary.files:
        file.unlink()
    other = replace(classifier, model=init_weights(AlexNet(classifier.model.spec, CLASSES), 5))
    document = onnx_document(other, PLAIN)
    monkeypatch.setattr(openvino_ir, "onnx_document", lambda _, options: document)
    with pytest.raises(AlexNetError, match="differs from the network"):
        export_openvino(classifier, path, PLAIN, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [ExportOptions(crops=10), ExportOptions(weights="int8")])
def test_openvino_takes_the_package_s_own_onnx(
    options: ExportOptions, dataset: PreparedDataset, tmp_path: Path
) -> None:
    for module in ("onnx", "openvino"):
        pytest.importorskip(module, reason=f"the extra {module} is not installed")
    classifier = tiny_classifier(tiny(get_recipe("original")), dataset)
    summary = export_openvino(classifier, tmp_path / "model.xml", options, [])
    assert summary.agreement is not None and summary.agreement.same_top1 == 12


# ---- state dicts


def torchvision_mean() -> np.ndarray:
    color = np.array([255 * value for value in torchvision.MEAN])
    return np.broadcast_to(color, (256, 256, 3)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_class_loads_the_state_dict_and_answers_alike(
    suffix: str, tmp_path: Path
) -> None:
    classifier = classifier_of(narrow(get_recipe("owt")), torchvision_mean())
    path = tmp_path / f"weights{suffix}"
    summary = export_state_dict(classifier, path, TORCHVISION)
    assert summary.notes == (
        "Its input is that of torchvision's own transforms for these weights.",
    )
    net = Theirs().eval()
    net.load_state_dict(read_state(path), strict=True)
    crops = classifier.preprocessor.center_crop(random_records(classifier))
    with torch.no_grad():
        theirs = net(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    ours = classifier.model(classifier.preprocessor.normalize(crops))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4 * float(ours.abs().max()))


def read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def test_what_came_from_torchvision_goes_back_bit_by_bit(tmp_path: Path) -> None:
    weights = random_weights(narrow(get_recipe("owt")), CLASSES)
    theirs = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save(to_state_dict(theirs, 1.0), tmp_path / "first.pth")
    import_torchvision(tmp_path / "first.pth", tmp_path / "model")
    classifier = read_model_file(tmp_path / "model")
    export_state_dict(classifier, tmp_path / "second.pth", TORCHVISION)
    import_torchvision(tmp_path / "second.pth", tmp_path / "again")
    again = read_model_file(tmp_path / "again").model.state_dict()
    for name, tensor in classifier.model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_other_weights_of_conv1_are_off_by_a_last_place_at_most(tmp_path: Path) -> None:
    classifier = classifier_of(narrow(get_recipe("owt")), torchvision_mean())
    export_state_dict(classifier, tmp_path / "weights.pth", TORCHVISION)
    import_torchvision(tmp_path / "weights.pth", tmp_path / "model")
    imported = read_model_file(tmp_path / "model").model.state_dict()
    for name, tensor in classifier.model.state_dict().items():
        if name != "conv1.weight":
            assert torch.equal(imported[name], tensor), name
    weight = classifier.model.conv1.weight
    error = (imported["conv1.weight"].double() - weight.double()).abs()
    assert (error <= weight.abs().double() * 2**-23).all()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_plain_names_are_the_models_own(
    suffix: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    classifier = tiny_classifier(tiny(get_recipe("original")), dataset)
    export_state_dict(classifier, tmp_path / f"weights{suffix}", PLAIN)
    state = read_state(tmp_path / f"weights{suffix}")
    other = AlexNet(classifier.model.spec, 7)
    other.load_state_dict(state, strict=True)
    assert all(map(torch.equal, other.parameters(), classifier.model.parameters()))


def test_nets_that_torchvisions_class_cannot_hold_are_refused(tmp_path: Path) -> None:
    owt = narrow(get_recipe("owt"))
    caffe_net = classifier_of(narrow(get_recipe("caffe")), random_mean(256))
    with pytest.raises(UsageError, match="found the network caffe, but .* only that of .* owt"):
        export_state_dict(caffe_net, tmp_path / "weights.pth", TORCHVISION)
    image = replace(owt, augmentation=replace(owt.augmentation, mean="image"))
    with pytest.raises(UsageError, match="subtracts a mean image"):
        export_state_dict(
            classifier_of(image, random_mean(256)), tmp_path / "weights.pth", TORCHVISION
        )
    ceil = replace(owt, network=replace(owt.network, pool_ceil_mode=True))
    with pytest.raises(UsageError, match="by plain names"):
        export_state_dict(
            classifier_of(ceil, random_mean(256)), tmp_path / "weights.pth", TORCHVISION
        )
    assert not list(tmp_path.iterdir())
    summary = export_state_dict(
        classifier_of(owt, random_mean(256)), tmp_path / "weights.pth", TORCHVISION
    )
    assert "the mean (0.4" in summary.notes[0] and "not with torchvision's" in summary.notes[0]


# ---- Caffe


def small(name: str) -> Recipe:
    """Return a recipe of few channels, and of 99 pixels where its own input is larger."""
    recipe = get_recipe(name)
    channels, side, _ = recipe.network.input
    layers = tuple(shrunk_layer(layer) for layer in recipe.network.layers)
    side = min(side, 99)
    return replace(
        recipe, network=replace(recipe.network, layers=layers, input=(channels, side, side))
    )


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_caffes_importer_returns_the_model_bit_by_bit(name: str, tmp_path: Path) -> None:
    classifier = classifier_of(narrow(get_recipe(name)), random_mean(256))
    path = tmp_path / "net.caffemodel"
    summary = export_caffemodel(classifier, path, PLAIN)
    assert sorted(tmp_path.iterdir()) == sorted(summary.files)
    imported = import_caffe(path, tmp_path / "model", tmp_path / "net.binaryproto")
    assert imported.recipe == name
    again = read_model_file(tmp_path / "model")
    for key, tensor in classifier.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key
    assert np.array_equal(again.preprocessor.mean, classifier.preprocessor.mean)


@pytest.mark.parametrize(
    "name", ["caffe", "caffenet", "paper", "modern", "single-prenorm", "cifar-18pct", "figure1"]
)
def test_caffes_layers_compute_what_the_model_does(name: str, tmp_path: Path) -> None:
    recipe = small(name)
    side = recipe.network.input[1]
    classifier = classifier_of(recipe, random_mean(side + 4), recipe.network.num_classes)
    preprocessor = classifier.preprocessor
    path = tmp_path / "net.caffemodel"
    export_caffemodel(classifier, path, PLAIN)
    records = random_records(classifier)
    blue_first = torch.from_numpy(records[..., ::-1].copy()).permute(0, 3, 1, 2)
    pixels = blue_first.float() - read_mean(path.with_suffix(".binaryproto"))
    cropped = pixels[:, :, 2 : side + 2, 2 : side + 2]
    tops = run_net(read_net(path.with_suffix(".prototxt")), read_blobs(path), cropped)
    logits = classifier.model(preprocessor.normalize(preprocessor.center_crop(records)))
    expected = logits.softmax(1)
    torch.testing.assert_close(tops["prob"], expected, rtol=1e-3, atol=1e-5)
    assert expected.max() > 2 / recipe.network.num_classes  # else all answers would be alike


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("original", "conv1: this network's convolution rounds up"),
        ("fashion", "pool1: this network's pooling rounds"),
        ("separate", "conv1: this network's convolution rounds up"),
        ("cifar-11pct", "local3: Caffe has no locally connected"),
    ],
)
def test_what_caffe_cannot_express_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    recipe = get_recipe(name)
    model = AlexNet(recipe.network, CLASSES)
    channels, side, _ = recipe.network.input
    config = DecodeConfig(size=side, channels=channels)
    color = ColorStats(np.zeros(channels), np.zeros(channels), np.eye(channels))
    names = tuple(f"class {index}" for index in range(CLASSES))
    mean = random_mean(side, channels)
    preprocessor = Preprocessor(
        config, recipe.network.input, recipe.augmentation, names, mean, color
    )
    odd = Classifier(model, preprocessor, recipe, {})
    with pytest.raises(UsageError, match=reason):
        export_caffemodel(odd, tmp_path / "net.caffemodel", PLAIN)
    assert not list(tmp_path.iterdir())
