"""The exported page: complete, strict, of our own files only, with a network that answers alike."""

import io
import json
import re
import shutil
import subprocess
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import alexnet
from alexnet.analysis.receptive_field import receptive_field
from alexnet.analysis.saliency import coarse_to_fine
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.export import check, page, web_runtime
from alexnet.inference.export.onnx_graph import masked_document
from alexnet.inference.export.options import ExportOptions
from alexnet.models.model_file import Classifier
from alexnet.recipes.presets import get_recipe
from tests.conftest import CLASSES, striped_image, tiny, tiny_classifier

pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

OURS = ("*.html", "*.css", "*.js", "*.svg")
# every address that one file of the page names another by
ADDRESSES = re.compile(r"""(?:from |import\(|href=|src=|fetch\(|Worker\()["'`]([^"'`]+)["'`]""")


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(get_recipe("original")), dataset)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an npm package with files of the runtime's names, taken for the published one."""
    path = tmp_path / "runtime.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in web_runtime.RUNTIME_FILES:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    monkeypatch.setattr(web_runtime, "_require_integrity", lambda archive: None)
    return path


def export(classifier: Classifier, folder: Path, runtime: Path) -> Any:
    return alexnet.export(classifier, folder, format="page", options=ExportOptions(runtime=runtime))


@pytest.fixture
def folder(classifier: Classifier, runtime: Path, tmp_path: Path) -> Path:
    """Return a new page."""
    exported = export(classifier, tmp_path / "page", runtime)
    assert exported.path == tmp_path / "page"
    return tmp_path / "page"


def texts(folder: Path) -> dict[str, str]:
    """Return the page's own files of text, by their paths in the folder."""
    files = [file for pattern in OURS for file in folder.rglob(pattern)]
    return {file.relative_to(folder).as_posix(): file.read_text("utf-8") for file in files}


def session(document: Any) -> Any:
    return onnxruntime.InferenceSession(
        document.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def squares(classifier: Classifier) -> np.ndarray:
    decode = classifier.preprocessor.decode_square
    return np.stack([decode(striped_image(label, 0)) for label in CLASSES])


# ---- the folder


def test_the_folder_has_all_it_names_and_nothing_else_is_asked(folder: Path) -> None:
    for name, text in texts(folder).items():
        for address in ADDRESSES.findall(text):
            if address.startswith(("#", "data:")) or "${" in address:
                continue
            file = (folder / name).parent / address
            assert file.is_file(), f"{name} names {address}"
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert hosts <= {"http://www.w3.org"}, name  # the name of SVG, which nobody asks
    assert {file.name for file in (folder / "onnxruntime").iterdir()} == {
        *web_runtime.RUNTIME_FILES,
        web_runtime.LICENSE,
    }
    assert (folder / "MODEL.md").read_text("utf-8").startswith("# page: an image classifier")
    assert "python -m http.server" in (folder / "HOSTING.md").read_text("utf-8")


def test_the_page_is_small(folder: Path) -> None:
    assert sum(len(text.encode()) for text in texts(folder).values()) <= 200_000


class Markup(HTMLParser):
    """What a strict policy forbids in HTML, and the policy itself."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = ""
        self.inline: list[str] = []
        self.opened = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.opened = tag
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"] or ""
        self.inline += [name for name in attributes if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self.opened in ("script", "style") and data.strip():
            self.inline.append(data)


def test_the_policy_is_strict_and_nothing_is_inline(folder: Path) -> None:
    markup = Markup()
    markup.feed((folder / "index.html").read_text("utf-8"))
    assert markup.inline == []
    policy = dict(
        rule.strip().split(" ", maxsplit=1) for rule in markup.policy.split(";") if rule.strip()
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["style-src"] == policy["connect-src"] == policy["worker-src"] == "'self'"
    assert policy["base-uri"] == policy["form-action"] == "'none'"
    assert set(" ".join(policy.values()).split()) == {
        "'none'",
        "'self'",
        "'wasm-unsafe-eval'",
        "blob:",
        "data:",
    }


def test_no_script_writes_markup_or_runs_text(folder: Path) -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
    for name, text in texts(folder).items():
        assert not forbidden.search(text), name


# ---- the network


def test_the_network_answers_like_the_model(folder: Path, classifier: Classifier) -> None:
    network = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    index = json.loads((folder / "index.json").read_text("utf-8"))
    preprocessor = classifier.preprocessor
    mask = np.ones((1, 1, *preprocessor.input_shape[1:]), np.float32)
    records = squares(classifier)
    with torch.inference_mode():
        expected = classifier.model(preprocessor.normalize(preprocessor.center_crop(records)))
    for record, row in zip(records, expected.numpy(), strict=True):
        (logits,) = network.run(["logits"], {"images": record[None], "mask": mask})
        assert np.abs(logits[0] - row).max() < 0.05 * np.abs(row).max()
    assert index["bytes"] == (folder / "model.onnx").stat().st_size
    assert index["models"][0]["classes"] == list(preprocessor.classes)
    assert set(index["outputs"]) <= {output.name for output in network.get_outputs()}
    layers = {layer["name"] for layer in index["models"][0]["layers"]}
    assert {"conv1", "norm1", "pool1", "spatial2", "fc8"} <= set(index["outputs"]) <= layers


def test_a_mask_puts_the_mean_where_it_is_zero(classifier: Classifier) -> None:
    preprocessor = classifier.preprocessor
    side = preprocessor.input_shape[1]
    square = squares(classifier)[:1]
    masks = np.ones((3, 1, side, side), np.float32)
    masks[1, :, 20:50, 30:60] = 0
    masks[2] = 0
    network = session(masked_document(classifier, ExportOptions()))
    (actual,) = network.run(["probabilities"], {"images": square, "mask": masks})
    normalized = preprocessor.normalize(preprocessor.center_crop(square))
    with torch.inference_mode():
        expected = classifier.model(normalized * torch.from_numpy(masks)).softmax(1).numpy()
    assert np.abs(actual - expected).max() < 1e-5
    assert np.abs(expected[0] - expected[2]).max() > 1e-4, "the mask changes the answer"


def test_the_rows_of_a_layer_see_their_receptive_fields(
    folder: Path, classifier: Classifier
) -> None:
    fields = json.loads((folder / "index.json").read_text("utf-8"))["fields"]
    shapes = classifier.model.shapes
    for layer, row, column in (("conv1", 3, 5), ("pool2", 2, 1), ("conv5", 0, 4)):
        box = receptive_field(shapes, layer, row, column).box
        assert [*fields[layer][row], *fields[layer][column]] == [
            box.top,
            box.bottom,
            box.left,
            box.right,
        ]


def test_the_mean_has_the_crops_size(folder: Path, classifier: Classifier) -> None:
    mean = np.asarray(Image.open(folder / "mean.png"))
    expected = np.broadcast_to(classifier.preprocessor.center_mean, mean.shape)
    assert np.abs(mean - expected).max() <= 0.5


# ---- what can be in the way


def test_a_page_is_replaced_and_another_folder_is_not(
    folder: Path, classifier: Classifier, runtime: Path, tmp_path: Path
) -> None:
    (folder / "index.html").write_text("old", encoding="utf-8")
    export(classifier, folder, runtime)
    assert (folder / "index.html").read_text("utf-8").startswith("<!doctype html>")
    assert {path.name for path in tmp_path.iterdir()} == {"page", "runtime.tgz"}
    other = tmp_path / "other"
    other.mkdir()
    export(classifier, other, runtime)
    (other / "index.json").write_text('{"format": "mine"}', encoding="utf-8")
    with pytest.raises(UsageError, match="found a folder with .* that is no page of ours"):
        export(classifier, other, runtime)
    with pytest.raises(UsageError, match="found a file, expected a folder"):
        export(classifier, runtime, runtime)


def test_a_page_stays_where_the_next_one_is_wrong(
    folder: Path, classifier: Classifier, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "model.onnx").read_bytes()
    monkeypatch.setitem(check.TOLERANCES, "int8", 1e-12)
    with pytest.raises(AlexNetError, match="differs from the network"):
        export(classifier, folder, runtime)
    assert (folder / "model.onnx").read_bytes() == before
    assert {path.name for path in folder.parent.iterdir()} == {"page", "runtime.tgz"}


def test_a_missing_runtime_is_named_before_the_work(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_runtime, "FOLDER", tmp_path / "onnxruntime_web")
    monkeypatch.setattr(page, "masked_document", None)
    with pytest.raises(AlexNetError, match=r"`make web-runtime`.*--runtime FILE\.tgz"):
        alexnet.export(classifier, tmp_path / "page", format="page")
    with pytest.raises(AlexNetError, match="not found, expected the npm package"):
        export(classifier, tmp_path / "page", tmp_path / "absent.tgz")
    assert not list(tmp_path.iterdir())


# ---- the page's arithmetic

RESIZE = """
import { readFileSync } from "node:fs";
const { plan, reduce, resize } = await import(process.argv[1]);
const { width, height, size, filter } = JSON.parse(process.argv[2]);
const data = new Uint8Array(readFileSync(0));
const side = Math.min(width, height);
const box = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2];
const { box: read, factor, tall } = plan(box, [width, height], size, filter, 2);
const rows = [];
for (let y = read[1]; y < read[3]; y += 1) {
  rows.push(data.subarray((y * width + read[0]) * 3, (y * width + read[2]) * 3));
}
const region = { data: Buffer.concat(rows), width: read[2] - read[0], height: read[3] - read[1] };
const moved = box.map((edge, at) => (edge - read[at % 2]) / factor);
process.stdout.write(resize(reduce(region, factor), moved, size, filter, tall).data);
"""


@pytest.mark.parametrize("name", ["box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("width", "height", "size"), [(131, 90, 64), (50, 40, 64), (401, 300, 48), (90, 91, 90)]
)
def test_the_page_resizes_as_pillow_does(name: str, width: int, height: int, size: int) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    task = json.dumps({"width": width, "height": height, "size": size, "filter": name})
    script = (page.OWN_FILES / "resize.js").as_uri()
    command = [node, "--input-type=module", "--eval", RESIZE, script, task]
    done = subprocess.run(command, input=pixels.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    actual = np.frombuffer(done.stdout, np.uint8).reshape(size, size, 3)
    side = min(width, height)
    left = (width - side) / 2
    top = (height - side) / 2
    expected = Image.fromarray(pixels).resize(
        (size, size),
        Image.Resampling[name.upper()],
        box=(left, top, left + side, top + side),
        reducing_gap=2,
    )
    assert np.array_equal(actual, np.asarray(expected))


ORDER = """
const { coarseToFine } = await import(process.argv[1]);
process.stdout.write(JSON.stringify(coarseToFine(Number(process.argv[2]))));
"""


@pytest.mark.parametrize("count", [1, 4, 13])
def test_the_page_goes_from_coarse_to_fine_as_the_service_does(count: int) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = (page.OWN_FILES / "patches.js").as_uri()
    command = [node, "--input-type=module", "--eval", ORDER, script, str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(map(tuple, json.loads(done.stdout))) == coarse_to_fine(count)
