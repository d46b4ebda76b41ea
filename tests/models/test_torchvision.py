"""Import of torchvision's weights: the network computes what theirs, written here, would."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from alexnet.core.errors import AlexNetError
from alexnet.models.convert import torchvision
from alexnet.models.convert.torchvision import LAYER_NAMES, import_torchvision
from alexnet.models.model_file import read_model_file
from alexnet.recipes.presets import get_recipe
from tests.helpers.caffe_files import narrow, random_weights
from tests.helpers.torchvision_net import CLASSES, Theirs

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision, "get_recipe", lambda name: narrow(get_recipe(name)))


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    weights = random_weights(narrow(get_recipe("owt")), CLASSES)
    net = Theirs().eval()
    net.load_state_dict(
        {
            f"{their_name}.{part}": torch.from_numpy(weights[f"{our_name}.{part}"])
            for their_name, our_name in LAYER_NAMES.items()
            for part in ("weight", "bias")
        }
    )
    return net


def saved(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def test_the_imported_network_computes_what_theirs_does(theirs: Theirs, tmp_path: Path) -> None:
    imported = import_torchvision(
        saved(tmp_path / "net.pth", theirs.state_dict()), tmp_path / "model"
    )
    parameters = sum(parameter.numel() for parameter in theirs.parameters())
    assert (imported.recipe, imported.classes, imported.parameters) == ("owt", CLASSES, parameters)
    classifier = read_model_file(tmp_path / "model")
    preprocessor = classifier.preprocessor
    pixels = torch.randint(
        0, 256, (2, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        expected = theirs(pixels[:, 16:240, 16:240].permute(0, 3, 1, 2).float())
    crops = preprocessor.center_crop(pixels.numpy())
    logits = classifier.model(preprocessor.normalize(crops))
    assert torch.allclose(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_are_copied_bit_by_bit(
    wrapper: str | None, zipped: bool, theirs: Theirs, tmp_path: Path
) -> None:
    state = theirs.state_dict()
    content = (
        state
        if wrapper is None
        else {"epoch": 3, wrapper: {f"module.{name}": tensor for name, tensor in state.items()}}
    )
    import_torchvision(saved(tmp_path / "net.pth", content, zipped), tmp_path / "model")
    imported = read_model_file(tmp_path / "model").model.state_dict()
    for their_name, our_name in LAYER_NAMES.items():
        assert torch.equal(imported[f"{our_name}.bias"], state[f"{their_name}.bias"])
        if our_name != "conv1":
            assert torch.equal(imported[f"{our_name}.weight"], state[f"{their_name}.weight"])


def test_conv1_is_divided_by_the_deviations_and_nothing_else(
    theirs: Theirs, tmp_path: Path
) -> None:
    import_torchvision(saved(tmp_path / "net.pth", theirs.state_dict()), tmp_path / "model")
    classifier = read_model_file(tmp_path / "model")
    divided = classifier.model.state_dict()["conv1.weight"]
    weight = theirs.state_dict()["features.0.weight"].double()
    scale = classifier.preprocessor.augmentation.scale
    for channel, deviation in enumerate((0.229, 0.224, 0.225)):
        expected = (weight[:, channel] / (255 * deviation * scale)).float()
        assert torch.allclose(divided[:, channel], expected, rtol=1e-7, atol=0)
    mean = classifier.preprocessor.mean[0, 0].tolist()
    assert mean == pytest.approx([123.675, 116.28, 103.53], rel=1e-6)
    assert classifier.recipe == narrow(get_recipe("owt"))


def test_parallel_names_and_half_precision_are_understood(theirs: Theirs, tmp_path: Path) -> None:
    state = {
        name.replace("features", "features.module"): tensor.half()
        for name, tensor in theirs.state_dict().items()
    }
    import_torchvision(saved(tmp_path / "net.pth", state), tmp_path / "model")
    imported = read_model_file(tmp_path / "model").model.state_dict()
    assert torch.equal(
        imported["conv5.weight"], theirs.state_dict()["features.10.weight"].half().float()
    )


def test_one_tensor_under_two_names_is_written_twice(theirs: Theirs, tmp_path: Path) -> None:
    state = theirs.state_dict()
    shared = {**state, "features.8.bias": state["features.10.bias"]}
    import_torchvision(saved(tmp_path / "net.pth", shared), tmp_path / "model")
    imported = read_model_file(tmp_path / "model").model.state_dict()
    assert torch.equal(imported["conv4.bias"], imported["conv5.bias"])


def refusal(file: Path) -> str:
    with pytest.raises(AlexNetError) as caught:
        import_torchvision(file, file.with_name("model"))
    assert not file.with_name("model").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused_in_one_line(theirs: Theirs, tmp_path: Path) -> None:
    def refusal_of(**changed: Any) -> str:
        return refusal(saved(tmp_path / "net.pth", {**theirs.state_dict(), **changed}))

    wide = {"features.0.weight": torch.zeros(96, 3, 11, 11)}
    assert (
        "conv1.weight is 96 x 3 x 11 x 11; the network owt expects 64 x 3 x 11 x 11"
        in refusal_of(**wide)
    )
    assert "missing or unknown are 'extra.weight'" in refusal_of(**{"extra.weight": torch.zeros(2)})
    assert "fc8 has no units" in refusal_of(**{"classifier.6.bias": torch.zeros(0)})
    assert "fc8.weight is 10 x 16; the network owt expects 1 x 16" in refusal_of(
        **{"classifier.6.bias": torch.zeros(())}
    )
    assert "not a state dict" in refusal_of(
        **{"features.3.bias": torch.zeros(192, dtype=torch.int64)}
    )
    assert "not a state dict" in refusal_of(**{"features.3.bias": torch.zeros(192).to_sparse()})
    assert "not a state dict" in refusal(saved(tmp_path / "net.pth", [1, 2]))
    state = theirs.state_dict()
    del state["features.3.bias"]
    assert "missing or unknown are 'features.3.bias'" in refusal(saved(tmp_path / "net.pth", state))


class Evil:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def test_nothing_in_a_file_is_ever_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for zipped in (True, False):
        assert "tensors alone" in refusal(
            saved(tmp_path / "net.pth", {"state_dict": Evil(canary)}, zipped)
        )
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Evil(canary)))
    assert "tensors alone" in refusal(tmp_path / "net.pth")
    assert not canary.exists()


def test_damaged_files_and_an_old_torch_are_refused(
    theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "net.pth", theirs.state_dict())
    content = file.read_bytes()
    for broken in (b"", b"PK\x03\x04", content[: len(content) // 2], b"\x80\x02}" + b"\xff" * 40):
        file.write_bytes(broken)
        assert "tensors alone" in refusal(file)
    assert "no such file" in refusal(tmp_path / "none")
    file.write_bytes(content)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    assert "torch 2.9.1+cpu reads .pth files unsafely; install torch 2.10" in refusal(file)
