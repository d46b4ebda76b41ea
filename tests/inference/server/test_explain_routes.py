"""Looks inside over HTTP: what is answered equals what the analysis computes."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from alexnet.analysis import saliency
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.server.app import make_app
from alexnet.inference.server.model_store import ModelStore
from alexnet.inference.server.service import Service
from alexnet.models.model_file import Classifier
from tests.conftest import CPU, striped_image


def decode_png(url: str) -> np.ndarray:
    """Return the pixels of a data URL, palettes as colors."""
    header, _, data = url.partition(",")
    assert header == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return np.asarray(image.convert("RGB") if image.mode == "P" else image)


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[TestClient]:
    service = Service(ModelStore({"stripes": path}, None, CPU), CPU)
    with TestClient(make_app(service)) as client:
        yield client
    service.close()


@pytest.fixture(scope="module")
def image() -> bytes:
    """Return an image file."""
    data = io.BytesIO()
    Image.fromarray(striped_image("dots", 3)).save(data, "PNG")
    return data.getvalue()


def ask(client: TestClient, what: str, image: bytes, **query: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/explain/{what}", params=query, content=image)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_input_is_the_crop_that_is_predicted(
    client: TestClient, classifier: Classifier, image: bytes
) -> None:
    answer = ask(client, "input", image)
    record = classifier.preprocessor.decode_square(image)
    crop = classifier.preprocessor.center_crop(record[None])[0]
    assert np.array_equal(decode_png(answer["crop"]), crop)
    top, left, bottom, right = answer["box"]
    assert np.array_equal(record[top:bottom, left:right], crop)
    assert answer["record"] == [104, 104]
    expected = probabilities(classifier, record[None], 1, CPU)[0].sort(descending=True)
    shown = [entry["probability"] for entry in answer["top"]]
    assert shown == pytest.approx(expected.values[:5].tolist(), abs=2e-6)
    best = classifier.preprocessor.classes[int(expected.indices[0])]
    assert answer["top"][0]["class"] == best


def test_maps_come_strongest_first_on_one_scale(
    client: TestClient, classifier: Classifier, image: bytes
) -> None:
    answer = ask(client, "maps", image, layer="conv2", count=5)
    batch = classifier.preprocessor(image)[None]
    output = classifier.model.forward_intermediates(batch)["conv2"][0].numpy()
    assert answer["shape"] == list(output.shape)
    strongest = np.argsort(-output.max((1, 2)))[:5]
    assert [entry["unit"] for entry in answer["maps"]] == strongest.tolist()
    assert answer["scale"] == pytest.approx(float(np.abs(output).max()))
    first = output[strongest[0]]
    pixels = decode_png(answer["maps"][0]["image"]).astype(int)
    assert pixels.shape == (*first.shape, 3)
    clear = np.abs(first) > 0.1 * answer["scale"]  # blue is positive, rust negative
    assert ((pixels[..., 2] > pixels[..., 0]) == (first > 0))[clear].all()
    linear = ask(client, "maps", image, layer="fc8", count=3)
    assert linear["shape"] == [7, 1, 1]
    values = [entry["value"] for entry in linear["units"]]
    assert values == sorted(values, reverse=True)


def test_a_unit_has_its_receptive_field_and_kernel(
    client: TestClient, classifier: Classifier, image: bytes
) -> None:
    batch = classifier.preprocessor(image)[None]
    output = classifier.model.forward_intermediates(batch)["conv1"][0, 4].numpy()
    answer = ask(client, "unit", image, layer="conv1", unit=4)
    row, column = answer["position"]
    assert output[row, column] == output.max()
    box = [4 * row, 4 * column, 4 * row + 11, 4 * column + 11]
    assert answer["receptive_field"] == {"size": [11, 11], "box": box, "clipped": box}
    assert decode_png(answer["map"]).shape == (*output.shape, 3)
    assert decode_png(answer["kernel"]).shape == (11, 11, 3)
    kernels = client.get("/v1/kernels").json()
    assert kernels["layer"] == "conv1"
    assert kernels["kernels"][4] == answer["kernel"]
    assert len(kernels["kernels"]) == 12
    hidden = ask(client, "unit", image, layer="fc7", unit=0)
    assert hidden["map"] is None
    assert hidden["kernel"] is None
    assert hidden["receptive_field"]["clipped"] == [0, 0, 99, 99]


def test_saliency_is_of_the_class_that_is_asked_for(
    client: TestClient, classifier: Classifier, image: bytes
) -> None:
    batch = classifier.preprocessor(image)[None]
    probability = classifier.model(batch).softmax(1)[0]
    for what in ("gradient", "gradcam"):
        likely = ask(client, what, image)
        best = int(probability.argmax())
        assert likely["class"] == classifier.preprocessor.classes[best]
        named = ask(client, what, image, label="plain")
        assert named["class"] == "plain"
        index = classifier.preprocessor.classes.index("plain")
        assert named["probability"] == pytest.approx(float(probability[index]), abs=1e-6)
        assert decode_png(named["map"]).shape == (99, 99)
    gradient = saliency.input_gradient(classifier.model, batch, index)[0].numpy()
    levels = decode_png(ask(client, "gradient", image, label="plain")["map"]).astype(float)
    assert np.corrcoef(levels.ravel(), gradient.ravel())[0, 1] > 0.98  # but for the largest


def test_occlusion_is_refined_to_the_whole_map(
    client: TestClient, classifier: Classifier, image: bytes
) -> None:
    answer = client.post("/v1/explain/occlusion?label=dots", content=image)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, lines[0]["steps"] + 1))
    last = lines[-1]
    batch = classifier.preprocessor(image)[None]
    label = classifier.preprocessor.classes.index("dots")
    expected = saliency.occlusion_map(
        classifier.model, batch[0], label, last["patch"], last["corners"]
    )
    assert np.allclose(last["drop"], expected, atol=2e-6)
    first = np.array(lines[0]["drop"])  # every fourth position has its value already
    assert np.allclose(first[::4, ::4], expected[::4, ::4], atol=2e-6)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("maps?layer=conv9", "conv9"),
        ("maps", "layer: expected"),
        ("maps?layer=conv1&count=0", "count=0"),
        ("unit?layer=conv1&unit=99", "no unit 99"),
        ("unit?layer=conv1&unit=x", "unit=x"),
        ("gradient?label=cat", "label=cat"),
        ("gradcam?layer=fc6", "has no maps"),
        ("occlusion?label=cat", "label=cat"),
    ],
)
def test_wrong_questions_are_refused_in_a_line(
    client: TestClient, image: bytes, question: str, words: str
) -> None:
    answer = client.post(f"/v1/explain/{question}", content=image)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_what_is_no_image_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/explain/input", content=b"no image")
    assert answer.status_code == 415
