"""Exported ONNX models against the native network, in ONNX Runtime and OpenVINO."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import alexnet
from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.images import DecodeConfig
from alexnet.data.statistics import ColorStats
from alexnet.data.transforms import Preprocessor
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.export import check, onnx_file
from alexnet.inference.export.onnx_graph import network_document, onnx_document
from alexnet.inference.export.onnx_weights import quantize
from alexnet.inference.export.options import ExportOptions
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import Classifier
from alexnet.recipes.presets import RECIPES
from tests.conftest import CLASSES, CPU, small_model, striped_image

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

Outputs = dict[str, np.ndarray]
MARGIN = 5  # pixels by which a square is larger than the crop: odd, so the center is rounded


@torch.no_grad()
def make_classifier(name: str) -> Classifier:
    """Return a small net of a recipe with weights that make it choose, and its preprocessing."""
    model = small_model(name)
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.uniform_(-0.5, 0.5, generator=generator)
    channels, side, _ = model.spec.input
    size = side + MARGIN
    recipe = replace(RECIPES[name], network=model.spec)
    mean = np.linspace(80, 160, size * size * channels, dtype=np.float32)
    color = ColorStats(np.zeros(channels), np.ones(channels), np.eye(channels))
    preprocessor = Preprocessor(
        DecodeConfig(size=size, channels=channels, encoding="raw"),
        model.spec.input,
        recipe.augmentation,
        CLASSES,
        mean.reshape(size, size, channels),
        color,
    )
    classifier = Classifier(model, preprocessor, recipe, {"run": "flöwers", "epoch": 3})
    spread = model(preprocessor(striped_images(3))).std()
    last = list(model.parameters())[-2:]
    for parameter in last:
        parameter.mul_(3 / spread)
    return classifier


def striped_images(count: int) -> list[np.ndarray]:
    return [striped_image(CLASSES[number % len(CLASSES)], number) for number in range(count)]


def squares(classifier: Classifier, count: int) -> np.ndarray:
    return np.stack(
        [classifier.preprocessor.decode_square(image) for image in striped_images(count)]
    )


def run(document: Any, inputs: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
    """Run a document in ONNX Runtime; return its outputs by name."""
    session = onnxruntime.InferenceSession(
        document.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (image,) = session.get_inputs()
    names = names or [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {image.name: inputs}), strict=True))


def run_openvino(document: Any, inputs: np.ndarray) -> Outputs:
    """Run a document in OpenVINO in float32; return its outputs by name."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    core = openvino.Core()
    model = core.read_model(document.SerializeToString(), b"")
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled([inputs])
    return {output.get_any_name(): result[output] for output in compiled.outputs}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


# ---- the same answers


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_the_native_probabilities(name: str) -> None:
    classifier = make_classifier(name)
    document = onnx_document(classifier, ExportOptions())
    onnx.checker.check_model(document, full_check=True)
    inputs = squares(classifier, 7)
    expected = probabilities(classifier, inputs, 1, CPU).numpy()
    assert expected.max() > 0.5, "the net chooses"
    assert difference(run(document, inputs)["probabilities"], expected) <= 1e-5
    assert difference(run_openvino(document, inputs)["probabilities"], expected) <= 1e-5


@pytest.mark.parametrize("name", ["original", "paper", "modern", "cifar-11pct"])
def test_the_plain_norm_is_the_operator(name: str) -> None:
    classifier = make_classifier(name)
    document = onnx_document(classifier, ExportOptions(norm="plain"))
    assert "LRN" not in {node.op_type for node in document.graph.node}
    inputs = squares(classifier, 7)
    expected = probabilities(classifier, inputs, 1, CPU).numpy()
    assert difference(run(document, inputs)["probabilities"], expected) <= 1e-5
    assert difference(run_openvino(document, inputs)["probabilities"], expected) <= 1e-5


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_an_answer_does_not_depend_on_the_batch(weights: Any) -> None:
    classifier = make_classifier("original")
    document = onnx_document(classifier, ExportOptions(weights=weights))
    inputs = squares(classifier, 64)
    all_rows = run(document, inputs)["probabilities"]
    for size in (1, 7):
        parts = [
            run(document, inputs[start : start + size])["probabilities"]
            for start in range(0, 21, size)
        ]
        assert difference(np.concatenate(parts), all_rows[:21]) <= 1e-6


@pytest.mark.parametrize("name", ["original", "modern", "fashion"])
def test_squares_crops_and_tensors_have_the_same_logits(name: str) -> None:
    classifier = make_classifier(name)
    preprocessor = classifier.preprocessor
    inputs = squares(classifier, 3)
    crops = preprocessor.center_crop(inputs)
    of_squares = run(onnx_document(classifier, ExportOptions()), inputs)
    of_crops = run(onnx_document(classifier, ExportOptions(input="crop")), crops)
    tensors = preprocessor.normalize(crops).contiguous().numpy()
    of_tensors = run(onnx_document(classifier, ExportOptions(input="tensor")), tensors)
    assert np.array_equal(of_squares["logits"], of_crops["logits"])
    assert difference(of_squares["logits"], of_tensors["logits"]) <= 1e-4


@pytest.mark.parametrize("crops", [9, 10])
def test_several_crops_are_averaged_in_the_graph(crops: Any) -> None:
    classifier = make_classifier("modern")
    inputs = squares(classifier, 3)
    document = onnx_document(classifier, ExportOptions(crops=crops))
    expected = probabilities(classifier, inputs, crops, CPU).numpy()
    assert difference(expected, probabilities(classifier, inputs, 1, CPU).numpy()) > 1e-3
    assert difference(run(document, inputs)["probabilities"], expected) <= 1e-5
    assert difference(run_openvino(document, inputs)["probabilities"], expected) <= 1e-5


def test_layers_outputs_are_those_of_the_modules() -> None:
    classifier = make_classifier("original")
    names = ("conv1", "norm1", "spatial2", "conv5", "fc6", "fc8")
    inputs = squares(classifier, 2)
    actual = run(onnx_document(classifier, ExportOptions(outputs=names)), inputs)
    x = classifier.preprocessor.normalize(classifier.preprocessor.center_crop(inputs))
    with torch.inference_mode():
        for name, layer in classifier.model.named_children():
            x = layer(x)
            if name in names:
                assert actual[name].shape == x.shape
                assert difference(actual[name], x.numpy()) <= 1e-5 * float(x.abs().max())


# ---- the document


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_rounds_up_or_knows_the_batch(name: str) -> None:
    document = onnx_document(make_classifier(name), ExportOptions())
    attributes = {attribute.name for node in document.graph.node for attribute in node.attribute}
    assert attributes and "ceil_mode" not in attributes
    for value in (*document.graph.input, *document.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"


def test_nodes_and_constants_have_the_names_of_the_modules() -> None:
    classifier = make_classifier("original")
    document = onnx_document(classifier, ExportOptions())
    names = [node.name for node in document.graph.node]
    assert names == [node.output[0] for node in document.graph.node]
    modules = [name for name, _ in classifier.model.named_children()]
    assert [name for name in names if name in modules] == modules
    constants = {value.name: value for value in document.graph.initializer}
    for name, parameter in classifier.model.named_parameters():
        stored = onnx.numpy_helper.to_array(constants[name])
        assert np.array_equal(stored, parameter.detach().numpy()), name
    assert document.ir_version == 8
    assert [(opset.domain, opset.version) for opset in document.opset_import] == [("", 17)]


def test_the_metadata_says_what_a_program_needs() -> None:
    classifier = make_classifier("modern")
    document = onnx_document(classifier, ExportOptions())
    metadata = {entry.key: entry.value for entry in document.metadata_props}
    assert metadata["format"] == "alexnet-onnx/1"
    assert metadata["alexnet_version"] == alexnet.__version__
    assert metadata["recipe"] == "modern"
    assert tuple(json.loads(metadata["classes"])) == CLASSES
    assert json.loads(metadata["provenance"]) == classifier.provenance
    preprocessing = json.loads(metadata["preprocessing"])
    decode_config = DecodeConfig.from_json(preprocessing["decode_config"])
    assert decode_config == classifier.preprocessor.decode_config
    pixels = classifier.preprocessor.center_crop(squares(classifier, 1))
    normalized = (pixels - np.array(preprocessing["mean_color"])) * preprocessing["scale"]
    expected = classifier.preprocessor.normalize(pixels).permute(0, 2, 3, 1).numpy()
    assert difference(normalized, expected) <= 1e-5


def test_the_network_alone_has_a_fixed_batch() -> None:
    classifier = make_classifier("modern")
    document = network_document(classifier.model, batch_size=3)
    x = torch.randn(3, *classifier.model.spec.input)
    with torch.inference_mode():
        expected = classifier.model(x).numpy()
    assert difference(run(document, x.numpy())["logits"], expected) <= 1e-4


# ---- smaller weights


def test_quantized_rows_are_within_half_a_scale() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(6, 4, 3, 3)).astype(np.float32)
    values[2] = 0
    values[3] *= 1e-3
    quantized, scales = quantize(values)
    assert quantized.dtype == np.int8
    restored = quantized * scales[:, None, None, None]
    half = scales[:, None, None, None] / 2
    assert (np.abs(restored - values) <= 1.001 * half).all()
    assert not restored[2].any()


@pytest.mark.parametrize(("weights", "tolerance"), [("half", 5e-3), ("int8", 0.1)])
@pytest.mark.parametrize("name", ["original", "separate", "cifar-11pct"])
def test_smaller_weights_change_little(name: str, weights: Any, tolerance: float) -> None:
    classifier = make_classifier(name)
    inputs = squares(classifier, 7)
    document = onnx_document(classifier, ExportOptions(weights=weights))
    onnx.checker.check_model(document, full_check=True)
    expected = probabilities(classifier, inputs, 1, CPU).numpy()
    assert 0 < difference(run(document, inputs)["probabilities"], expected) <= tolerance
    assert difference(run_openvino(document, inputs)["probabilities"], expected) <= tolerance


def test_the_sizes_of_a_net_of_all_channels() -> None:
    recipe = RECIPES["modern"]
    network = replace(recipe.network, input=(3, 67, 67))  # a third of the parameters
    model = init_weights(AlexNet(network, len(CLASSES)), seed=0)
    preprocessor = replace(
        make_classifier("modern").preprocessor,
        decode_config=DecodeConfig(size=80, encoding="raw"),
        input_shape=network.input,
        mean=np.zeros((80, 80, 3), np.float32),
    )
    classifier = Classifier(model, preprocessor, recipe, {})
    sizes = {
        weights: onnx_document(classifier, ExportOptions(weights=weights)).ByteSize()
        for weights in ("float32", "half", "int8")
    }
    assert sizes["half"] <= 0.51 * sizes["float32"]
    assert sizes["int8"] <= 0.26 * sizes["float32"]


# ---- the file


def test_a_file_gives_the_answers_of_predict(tmp_path: Path) -> None:
    classifier = make_classifier("caffe")
    model = classifier.model, classifier.preprocessor
    path = tmp_path / "net.onnx"
    exported = alexnet.export(model, path)
    assert exported.bytes == path.stat().st_size
    assert exported.agreement is not None
    assert exported.agreement.same_top1 == exported.agreement.images > 0
    assert exported.agreement.max_difference <= 1e-5
    actual = run(onnx.load(path), squares(classifier, 3))["probabilities"]
    predictions = alexnet.predict(model, striped_images(3), crops=1, top_k=len(CLASSES))
    for prediction, row in zip(predictions, actual, strict=True):
        for name, probability in prediction.top:
            assert abs(row[CLASSES.index(name)] - probability) <= 1e-5


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        classifier = make_classifier("cifar-18pct")
        onnx_file.export_onnx(classifier, tmp_path / name, ExportOptions(weights="int8"), [])
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_file_with_other_answers_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.TOLERANCES, "half", 1e-9)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(AlexNetError, match="differs from the network by .*, expected 1e-09"):
        onnx_file.export_onnx(make_classifier("modern"), path, ExportOptions(weights="half"), [])
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert path.read_bytes() == b"old"


def test_the_command_compares_on_the_images_that_are_named(tmp_path: Path, images: Path) -> None:
    classifier = make_classifier("cifar-11pct")
    model = tmp_path / "model.safetensors"
    alexnet.save_model(model, classifier.model, classifier.preprocessor)
    checked = images / "down"
    arguments = ["export", str(model), str(tmp_path / "net.onnx"), "--half", "--json"]
    ended = CliRunner().invoke(cli, [*arguments, "--check", str(checked)])
    assert ended.exit_code == 0, ended.output
    report = json.loads(ended.output)
    assert report["agreement"]["images"] == len(list(checked.iterdir()))
    assert report["options"]["weights"] == "half"
    assert report["bytes"] == (tmp_path / "net.onnx").stat().st_size


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("net.onyx", {}, r"no format has the suffix \.onyx; expected \.onnx"),
        ("net.onnx", {"outputs": ("conv9",)}, "no layer conv9; expected some of conv1, pool1"),
        ("net.onnx", {"weights": "int4"}, "weights: found int4, expected one of float32, half"),
        ("net.onnx", {"crops": 10, "input": "crop"}, "10 crops are cut from the square"),
        ("net.onnx", {"crops": 10, "outputs": ("conv1",)}, "expected one crop"),
    ],
)
def test_wrong_arguments_are_named(
    path: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    classifier = make_classifier("modern")
    with pytest.raises(UsageError, match=message):
        alexnet.export(classifier, tmp_path / path, options=ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"none")
    path = tmp_path / "net.onnx"
    with pytest.raises(AlexNetError, match=r"damaged\.png: cannot be read"):
        alexnet.export(make_classifier("modern"), path, images=[damaged])
    assert not path.exists()


def test_a_net_with_another_layer_is_refused(tmp_path: Path) -> None:
    classifier = make_classifier("modern")
    classifier.model.fc8 = torch.nn.Linear(3, len(CLASSES))
    with pytest.raises(UsageError, match=r"net\.onnx: the weights do not fit .* fc8\.weight"):
        alexnet.export(classifier, tmp_path / "net.onnx")
