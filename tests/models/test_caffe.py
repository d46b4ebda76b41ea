"""Import of Caffe's weights: copied bit by bit, and the network computes what Caffe's would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alexnet.core.errors import AlexNetError
from alexnet.models.convert import caffe
from alexnet.models.convert.caffe import import_caffe, read_caffemodel, read_mean
from alexnet.models.convert.imported import read_classes
from alexnet.models.model_file import read_model_file
from alexnet.recipes.presets import get_recipe
from tests.helpers.caffe_files import (
    CAFFE,
    ORDERS,
    Arrays,
    blob_proto,
    caffemodel,
    narrow,
    random_weights,
)

CLASSES = 12
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Arrays:
    """Weights by Caffe's names; conv1's inputs are blue, green, red."""
    return random_weights(narrow(get_recipe("caffe")), CLASSES)


@pytest.fixture(autouse=True)
def narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give both recipes few hidden units, so that their files are small."""
    monkeypatch.setattr(caffe, "get_recipe", lambda name: narrow(get_recipe(name)))


def written(path: Path, message: object) -> Path:
    path.write_bytes(message.SerializeToString())  # type: ignore[attr-defined]
    return path


@pytest.fixture
def file(weights: Arrays, tmp_path: Path) -> Path:
    return written(tmp_path / "net.caffemodel", caffemodel(weights, ORDERS["caffe"], 2))


def caffe_network(weights: Tensors, x: torch.Tensor, order: tuple[str, ...]) -> torch.Tensor:
    """Compute Caffe's own layers on pixels (N, 3, 227, 227), blue first, without their mean."""

    def conv(
        name: str, x: torch.Tensor, stride: int = 1, pad: int = 0, group: int = 1
    ) -> torch.Tensor:
        return F.relu(
            F.conv2d(
                x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, pad, groups=group
            )
        )

    def norm_and_pool(x: torch.Tensor) -> torch.Tensor:
        for layer in order[1:]:
            x = (
                F.max_pool2d(x, 3, 2, ceil_mode=True)
                if layer == "pool1"
                else F.local_response_norm(x, 5, 1e-4, 0.75, 1)
            )
        return x

    def inner_product(name: str, x: torch.Tensor) -> torch.Tensor:
        # Caffe's memory order: channels, rows, columns
        kernels = weights[f"{name}.weight"].reshape(-1, *x.shape[1:])
        return (
            torch.einsum("nchw,uchw->nu", x, kernels)[:, :, None, None]
            + weights[f"{name}.bias"][:, None, None]
        )

    x = norm_and_pool(conv("conv1", x, stride=4))
    x = norm_and_pool(conv("conv2", x, pad=2, group=2))
    x = conv("conv5", conv("conv4", conv("conv3", x, pad=1), pad=1, group=2), pad=1, group=2)
    x = F.relu(inner_product("fc6", F.max_pool2d(x, 3, 2, ceil_mode=True)))
    return inner_product("fc8", F.relu(inner_product("fc7", x))).flatten(1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("recipe", ["caffe", "caffenet"])
def test_the_imported_network_computes_what_caffes_does(
    recipe: str, version: int, weights: Arrays, tmp_path: Path
) -> None:
    file = written(tmp_path / "net.caffemodel", caffemodel(weights, ORDERS[recipe], version))
    mean_image = (
        np.random.default_rng(0).uniform(90, 130, (3, 256, 256)).astype(np.float32)
    )  # B, G, R
    mean = written(tmp_path / "mean.binaryproto", blob_proto(mean_image, legacy=True))
    imported = import_caffe(file, tmp_path / "model", mean)
    assert (imported.recipe, imported.classes, imported.parameters) == (
        recipe,
        CLASSES,
        sum(w.size for w in weights.values()),
    )

    classifier = read_model_file(tmp_path / "model")
    preprocessor = classifier.preprocessor
    pixels = np.random.default_rng(1).integers(0, 256, (2, 256, 256, 3), np.uint8)  # R, G, B
    blue_first = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)) - mean_image
    expected = caffe_network(
        {name: torch.from_numpy(array) for name, array in weights.items()},
        torch.from_numpy(blue_first[:, :, 14:241, 14:241]),
        ORDERS[recipe],
    )
    logits = classifier.model(preprocessor.normalize(preprocessor.center_crop(pixels)))
    assert torch.allclose(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_weights_are_copied_bit_by_bit(
    version: int, double: bool, weights: Arrays, tmp_path: Path
) -> None:
    file = written(
        tmp_path / "net.caffemodel", caffemodel(weights, ORDERS["caffe"], version, double=double)
    )
    import_caffe(file, tmp_path / "model")
    state = read_model_file(tmp_path / "model").model.state_dict()
    assert np.array_equal(state.pop("conv1.weight").numpy(), weights["conv1.weight"][:, ::-1])
    assert state and all(
        np.array_equal(tensor.numpy(), weights[name]) for name, tensor in state.items()
    )


def test_blobs_have_the_shapes_they_were_written_with(weights: Arrays, tmp_path: Path) -> None:
    for version, bias, dense in ((1, (1, 1, 1, 96), (1, 1, 16, 9216)), (2, (96,), (16, 9216))):
        layers = read_caffemodel(
            written(tmp_path / "net", caffemodel(weights, ORDERS["caffe"], version))
        )
        assert tuple(layers)[:6] == ("data", "conv1", "relu1", "norm1", "pool1", "conv2")
        assert (
            layers["relu1"] == []
            and layers["conv1"][1].shape == bias
            and layers["fc6"][0].shape == dense
        )
        assert np.array_equal(layers["conv2"][0], weights["conv2.weight"])


def test_without_a_mean_file_the_mean_is_caffes_color(file: Path, tmp_path: Path) -> None:
    import_caffe(file, tmp_path / "model")
    preprocessor = read_model_file(tmp_path / "model").preprocessor
    assert preprocessor.mean.shape == (256, 256, 3)
    assert (preprocessor.mean == np.array([123, 117, 104])).all()
    assert preprocessor.color.mean.tolist() == [123, 117, 104]
    assert not preprocessor.color.eigenvalues.any()


def test_a_mean_image_is_reordered_to_red_green_blue(tmp_path: Path) -> None:
    mean_image = np.random.default_rng(0).uniform(0, 255, (3, 256, 256)).astype(np.float32)
    for legacy in (False, True):
        mean = read_mean(written(tmp_path / "mean", blob_proto(mean_image, legacy)))
        assert all(
            np.array_equal(mean[..., channel], mean_image[2 - channel]) for channel in range(3)
        )
    loose = CAFFE["LooseBlobProto"](data=mean_image.ravel())  # one by one instead of packed
    loose.shape.dim.extend(mean_image.shape)
    assert np.array_equal(read_mean(written(tmp_path / "mean", loose)), mean)


def test_classes_are_numbered_or_named(file: Path, tmp_path: Path) -> None:
    import_caffe(file, tmp_path / "model")
    assert read_model_file(tmp_path / "model").preprocessor.classes[:2] == (
        "class 0000",
        "class 0001",
    )
    names = tmp_path / "names.txt"
    names.write_text(
        "\ufeff"
        + "\n".join(f" n{number:08d} nom é {number}" for number in range(CLASSES))
        + "\n\n",
        "utf-8",
    )
    import_caffe(file, tmp_path / "model", classes=read_classes(names))
    assert read_model_file(tmp_path / "model").preprocessor.classes[11] == "n00000011 nom é 11"
    with pytest.raises(AlexNetError, match="3 class names for the 12 units of fc8"):
        import_caffe(file, tmp_path / "model", classes=("a", "b", "c"))
    names.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(AlexNetError, match="names.txt: cannot be read .*UTF-8"):
        read_classes(names)


def test_a_renamed_last_layer_is_still_the_last(weights: Arrays, tmp_path: Path) -> None:
    file = written(
        tmp_path / "style.caffemodel", caffemodel(weights, ORDERS["caffenet"], 2, last="fc8_flickr")
    )
    assert import_caffe(file, tmp_path / "model").classes == CLASSES


def test_what_does_not_fit_is_refused_in_one_line(weights: Arrays, tmp_path: Path) -> None:
    def refusal(changed: Arrays, order: tuple[str, ...] = ORDERS["caffe"]) -> str:
        with pytest.raises(AlexNetError) as caught:
            import_caffe(
                written(tmp_path / "net", caffemodel(changed, order, 2)), tmp_path / "model"
            )
        assert not (tmp_path / "model").exists() and "\n" not in str(caught.value)
        return str(caught.value)

    ungrouped = np.zeros((256, 96, 5, 5), np.float32)
    assert (
        "conv2.weight is 256 x 96 x 5 x 5; the network caffe expects 256 x 48 x 5 x 5"
        in refusal(weights | {"conv2.weight": ungrouped})
    )
    assert "fc8.weight is 11 x 16; the network caffe expects 12 x 16" in refusal(
        weights | {"fc8.weight": weights["fc8.weight"][1:]}
    )
    without = {name: array for name, array in weights.items() if name != "fc7.bias"}
    assert "fc7 has 1 blobs; expected two" in refusal(without)
    assert "its layers with weights are conv1; expected" in refusal(
        {name: weights[name] for name in ("conv1.weight", "conv1.bias")}
    )
    assert "no layers norm1 and pool1" in refusal(weights, ("relu1", "pool1"))
    assert "conv3.bias holds values that are not finite" in refusal(
        weights | {"conv3.bias": weights["conv3.bias"] * np.nan}
    )


def test_a_missing_file_a_directory_and_a_wrong_mean_are_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(AlexNetError, match="none: no such file; expected a .caffemodel"):
        import_caffe(tmp_path / "none", tmp_path / "model")
    with pytest.raises(AlexNetError, match="a directory; expected a mean.binaryproto"):
        import_caffe(file, tmp_path / "model", tmp_path)
    small = written(tmp_path / "mean", blob_proto(np.zeros((3, 227, 227))))
    with pytest.raises(AlexNetError, match="a mean image of 3 x 227 x 227; expected 3 x 256 x 256"):
        import_caffe(file, tmp_path / "model", small)
    (tmp_path / "mean").write_bytes(b"\x89HDF\r\n\x1a\n" * 9)
    with pytest.raises(AlexNetError, match="mean: not a mean.binaryproto, or a damaged one"):
        read_mean(tmp_path / "mean")
