"""Uploads: two folders of images become a dataset and a model; what is refused."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from alexnet.data.prepared import open_dataset
from alexnet.inference.server import uploads
from alexnet.models.model_file import read_model_file
from tests.helpers.training_service import parse_events, served

BYTES = {"Content-Type": "application/octet-stream"}
CLASSES = {"across": "across", "dots": "猫 & 狗"}  # the folder of the images, the class's name
PATIENCE = 120.0
# 404 and 405: the client or a slash made another path of it, which nothing serves
REFUSED = (400, 404, 405, 415)


def send(client: TestClient, images: Path) -> str:
    """Upload two classes of images; return the upload's id."""
    upload = client.post("/v1/uploads", json={}).json()["upload"]
    for folder, label in CLASSES.items():
        for file in sorted((images / folder).iterdir()):
            answer = put(client, upload, label, file.name, file.read_bytes())
            assert answer == 204
    return str(upload)


def put(client: TestClient, upload: str, label: str, name: str, data: bytes = b"x") -> int:
    path = f"/v1/uploads/{upload}/{quote(label, safe='')}/{quote(name, safe='')}"
    return client.put(path, content=data, headers=BYTES).status_code


def prepared(client: TestClient, upload: str, name: str, **values: Any) -> dict[str, Any]:
    """Ask for a dataset of an upload; return how it ended."""
    path = f"/v1/uploads/{upload}"
    assert client.post(f"{path}/prepare", json={"dataset": name, **values}).status_code == 202
    deadline = time.monotonic() + PATIENCE
    while (answer := client.get(path).json())["state"] == "preparing":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(answer)


def test_two_folders_become_a_dataset_and_a_model(images: Path, tmp_path: Path) -> None:
    with served(tmp_path) as client:
        upload = send(client, images)
        done = prepared(client, upload, "stripes-images", val_fraction=0.25)
        assert (done["state"], done["done"]) == ("prepared", 24)
        assert done["summary"]["images"] == sum(done["summary"]["splits"].values()) == 24
        assert not (tmp_path / ".uploads" / upload).exists()

        run = {"name": "stripes", "dataset": "stripes-images", "recipe": "cifar-18pct"}
        started = client.post("/v1/runs", json=run | {"epochs": 2})
        assert started.status_code == 202
        assert started.json()["batch_size"] == 16, "few images"
        events = parse_events(client.get("/v1/runs/stripes/events").text)
        status = client.get("/v1/runs/stripes").json()
    assert status["state"] == "finished" and status["has_model"], status["error"]
    assert [kind for kind, _, _ in events][-1] == "end"
    dataset = open_dataset(tmp_path / "stripes-images")
    assert dataset.classes == tuple(sorted(CLASSES.values()))
    assert read_model_file(tmp_path / "stripes").preprocessor.classes == dataset.classes


def test_one_class_is_not_enough(images: Path, tmp_path: Path) -> None:
    with served(tmp_path) as client:
        upload = client.post("/v1/uploads", json={}).json()["upload"]
        file = next((images / "dots").iterdir())
        assert put(client, upload, "dots", "1.png", file.read_bytes()) == 204
        failed = prepared(client, upload, "one")
        again = put(client, upload, "dots", "2.png", b"x")
    assert failed["state"] == "failed" and "1 class" in failed["error"]
    assert again == 409
    assert [path.name for path in tmp_path.iterdir()] == [".uploads"]


@pytest.mark.parametrize(
    "name", ["..", ".", ".hidden", "a\\b", "a:b", "con.jpg", " a", "a.", "x" * 300, "a\nb", "*"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with served(tmp_path) as client:
        upload = client.post("/v1/uploads", json={}).json()["upload"]
        assert put(client, upload, "cats", f"{name}.jpg" if name == "*" else name) in REFUSED
        assert put(client, upload, name, "1.jpg") in REFUSED
        assert put(client, upload, "../..", "1.jpg") in REFUSED
        assert list((tmp_path / ".uploads" / upload).iterdir()) == []


def test_what_is_too_large_or_no_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as client:
        upload = client.post("/v1/uploads", json={}).json()["upload"]
        assert put(client, upload, "cats", "1.jpg", b"x" * ((32 << 20) + 1)) == 413
        assert put(client, upload, "cats", "notes.txt") == 415
        monkeypatch.setattr(uploads, "MAX_FILES", 1)
        assert put(client, upload, "cats", "1.jpg") == 204
        assert put(client, upload, "cats", "2.jpg") == 413
        monkeypatch.setattr(uploads, "MAX_FILES", 9)
        monkeypatch.setattr(uploads, "MIN_FREE_BYTES", 1 << 60)
        assert put(client, upload, "cats", "2.jpg") == 507
        received = client.get(f"/v1/uploads/{upload}").json()
        assert (received["files"], received["bytes"]) == (1, 1)
        stored = [path.name for path in (tmp_path / ".uploads" / upload / "cats").iterdir()]
    assert stored == ["1.jpg"], "nothing of what was refused is left"


def test_a_dataset_replaces_nothing(images: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    with served(tmp_path) as client:
        upload = send(client, images)
        path = f"/v1/uploads/{upload}/prepare"
        assert client.post(path, json={"dataset": "used"}).status_code == 409
        assert client.post(path, json={"dataset": "../used"}).status_code == 400
        assert client.post(path, json={"dataset": "a", "size": 1}).status_code == 400
        assert client.post(path, json={"dataset": "a", "val_fraction": 2}).status_code == 400


def test_an_upload_can_be_deleted_and_ends_with_the_service(images: Path, tmp_path: Path) -> None:
    with served(tmp_path) as client:
        upload = send(client, images)
        assert client.delete(f"/v1/uploads/{upload}").status_code == 204
        assert client.get(f"/v1/uploads/{upload}").status_code == 404
        assert client.delete(f"/v1/uploads/{upload}").status_code == 404
        send(client, images)
    assert list((tmp_path / ".uploads").iterdir()) == []


def test_the_number_of_uploads_is_bounded(tmp_path: Path) -> None:
    with served(tmp_path) as client:
        codes = [client.post("/v1/uploads", json={}).status_code for _ in range(9)]
    assert codes == [201] * uploads.MAX_UPLOADS + [503]


def test_uploads_of_closed_pages_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path) as client:
        ids = [
            client.post("/v1/uploads", json={}).json()["upload"] for _ in range(uploads.MAX_UPLOADS)
        ]
        monkeypatch.setattr(uploads, "IDLE_SECONDS", -1.0)
        assert client.post("/v1/uploads", json={}).status_code == 201
        assert client.get(f"/v1/uploads/{ids[0]}").status_code == 404
        assert len(list((tmp_path / ".uploads").iterdir())) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_ends_a_preparation(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(uploads, "prepare", fail)
    with served(tmp_path) as client:
        failed = prepared(client, send(client, images), "stripes-images")
    assert (failed["state"], failed["error"]) == ("failed", "a defect")
