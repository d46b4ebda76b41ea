"""Predictions of many images: bounded reading ahead, files that resume, folders of classes."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.image_batches import find_images
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import CROPS_PER_BATCH
from alexnet.inference.predict import Prediction, predict_files
from alexnet.inference.predict_many import (
    ImageInputs,
    Interrupted,
    Outputs,
    check_inputs,
    open_outputs,
    read_paths,
    write_predictions,
)
from alexnet.inference.prediction_file import (
    FileFormat,
    PredictionSettings,
    open_prediction_file,
    partial_path,
    settings_path,
)
from alexnet.inference.sort_into import ClassFolders, class_folders, folder_name, require_outside
from alexnet.models.model_file import Classifier
from alexnet.recipes.presets import MODERN
from tests.conftest import CPU, tiny, tiny_classifier

SETTINGS = PredictionSettings("0123456789abcdef", crops=1, top_k=2)
FORMATS: tuple[FileFormat, ...] = ("csv", "jsonl")
ODD_NAMES = ('a "quoted", name.jpg', "two\nlines.jpg", 'ends in quote"\r\n.jpg', "é ü.jpg")
PREDICTIONS = [
    Prediction(Path(name), (("cat", 0.75), ("dog, or not", 0.25)), None) for name in ODD_NAMES
]
PREDICTIONS.insert(2, Prediction(Path("cut.jpg"), (), "cannot be read: truncated"))


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(MODERN), dataset)


def write_all(path: Path, file_format: FileFormat, predictions: list[Prediction]) -> bytes:
    """Write predictions without interruption; return the file's bytes."""
    file = open_prediction_file(path, file_format, SETTINGS, resume=False)
    for prediction in predictions:
        file.write(prediction)
    file.finish()
    assert not partial_path(path).exists() and not settings_path(path).exists()
    return path.read_bytes()


def write_partial(path: Path, content: bytes) -> None:
    """Write what an interrupted run leaves of a file of predictions."""
    partial_path(path).write_bytes(content)
    settings_path(path).write_text(json.dumps(asdict(SETTINGS)))


# ---- reading ahead


def test_files_are_taken_a_few_batches_ahead_only(classifier: Classifier, images: Path) -> None:
    image = next(images.rglob("*.png"))
    count = 0

    def endless() -> Iterator[Path]:
        nonlocal count
        while True:
            count += 1
            yield image

    crops = 10
    stream = predict_files(classifier, endless(), crops, CPU)
    batch = CROPS_PER_BATCH // crops
    for done in range(1, 3 * batch):
        next(stream)
        assert count <= done + batch + (CPU.workers + 2) * batch
    stream.close()  # type: ignore[attr-defined]


def test_images_are_listed_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b/2.jpg", "b/10.jpg", "b.jpg", "a-b/1.jpg", "a/z.jpg", "a/c/1.jpg", "a/b.txt"]
    hidden = [".cache/1.jpg", "a/.2.jpg", "a/._3.jpg", "__MACOSX/4.jpg"]
    for name in names + hidden:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = sorted(tmp_path / name for name in names if name.endswith(".jpg"))
    assert find_images([str(tmp_path)]) == expected
    assert list(ImageInputs((str(tmp_path), "-"), ("x.jpg",))) == [*expected, Path("x.jpg")]


def test_paths_on_standard_input_end_with_lines_or_nul_bytes() -> None:
    assert read_paths(io.BytesIO(b"a b.jpg\r\n\nc.jpg"), null=False) == ("a b.jpg", "c.jpg")
    assert read_paths(io.BytesIO(b"a\nb.jpg\0c.jpg\0"), null=True) == ("a\nb.jpg", "c.jpg")
    with pytest.raises(UsageError, match="found NUL bytes .* --null"):
        read_paths(io.BytesIO(b"a.jpg\0c.jpg\0"), null=False)


# ---- files


def test_a_table_and_json_lines_have_every_prediction(tmp_path: Path) -> None:
    text = write_all(tmp_path / "p.csv", "csv", PREDICTIONS).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["path"] for row in rows] == [str(each.path) for each in PREDICTIONS]
    assert (rows[0]["class_2"], float(rows[0]["probability_2"])) == ("dog, or not", 0.25)
    assert rows[2]["class_1"] == "" and rows[2]["error"] == "cannot be read: truncated"
    lines = write_all(tmp_path / "p.jsonl", "jsonl", PREDICTIONS).splitlines()
    assert [json.loads(line) for line in lines] == [each.to_json() for each in PREDICTIONS]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_cut_anywhere_resumes_to_the_same_bytes(
    file_format: FileFormat, tmp_path: Path
) -> None:
    path = tmp_path / "predictions"
    complete = write_all(path, file_format, PREDICTIONS)
    path.unlink()
    for length in [*range(0, len(complete), 7), *range(len(complete) - 20, len(complete) + 1)]:
        write_partial(path, complete[:length])
        file = open_prediction_file(path, file_format, SETTINGS, resume=True)
        for prediction in PREDICTIONS:
            file.write(prediction)
        file.finish()
        assert path.read_bytes() == complete, f"cut after {length} bytes"
        path.unlink()


def test_what_is_done_is_told_from_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    complete = write_all(path, "csv", PREDICTIONS)
    path.unlink()
    write_partial(path, complete[:-3])
    file = open_prediction_file(path, "csv", SETTINGS, resume=True)
    file.close()
    assert file.done == {str(each.path): each.error is None for each in PREDICTIONS[:-1]}


def test_a_partial_file_is_neither_lost_nor_mixed_with_another(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    complete = write_all(path, "csv", PREDICTIONS)
    with pytest.raises(UsageError, match="nothing to resume"):
        open_prediction_file(path, "csv", SETTINGS, resume=True)
    write_partial(path, complete)
    with pytest.raises(AlexNetError, match="continue it with --resume"):
        open_prediction_file(path, "csv", SETTINGS, resume=False)
    with pytest.raises(AlexNetError, match="found the columns path,.* expected path,"):
        write_partial(path, b"path,error\r\n")
        open_prediction_file(path, "csv", SETTINGS, resume=True)
    partial_path(path).write_bytes(b'{"path": "a.jpg"}\n[1]\n')
    with pytest.raises(AlexNetError, match="line 2 is no prediction"):
        open_prediction_file(path, "jsonl", SETTINGS, resume=True)
    assert partial_path(path).read_bytes() == b'{"path": "a.jpg"}\n[1]\n'


@pytest.mark.parametrize("change", [{"model": "f" * 64}, {"crops": 10}, {"top_k": 3}])
@pytest.mark.parametrize("file_format", FORMATS)
def test_predictions_of_other_settings_are_not_continued(
    file_format: FileFormat, change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "predictions"
    complete = write_all(path, file_format, PREDICTIONS)
    path.unlink()
    write_partial(path, complete)
    with pytest.raises(AlexNetError, match=r"model 0123456789ab, 1 crops, 2 classes .*, now "):
        open_prediction_file(path, file_format, replace(SETTINGS, **change), resume=True)
    settings_path(path).unlink()
    with pytest.raises(AlexNetError, match="does not say what .* was made with"):
        open_prediction_file(path, file_format, SETTINGS, resume=True)
    assert partial_path(path).read_bytes() == complete


def test_a_full_disk_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows limits no file's size")
    import resource

    path = tmp_path / "p.csv"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = open_prediction_file(path, "csv", SETTINGS, resume=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(AlexNetError, match=r"p.csv.partial: could not .* --resume continues"):
            for prediction in PREDICTIONS:
                file.write(prediction)
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file = open_prediction_file(path, "csv", SETTINGS, resume=True)
    for prediction in PREDICTIONS:
        file.write(prediction)
    file.finish()
    assert path.read_bytes() == write_all(tmp_path / "whole.csv", "csv", PREDICTIONS)


def test_a_failure_before_the_first_prediction_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(AlexNetError), open_outputs({"csv": path}, SETTINGS, False, None):
        raise AlexNetError("the model does not fit")
    assert not list(tmp_path.iterdir())


def test_a_signal_keeps_what_is_done_and_the_rest_follows(tmp_path: Path) -> None:
    files: dict[FileFormat, Path] = {"csv": tmp_path / "p.csv", "jsonl": tmp_path / "p.jsonl"}
    complete = write_all(tmp_path / "whole.csv", "csv", PREDICTIONS)
    shown: list[Prediction] = []

    def stop() -> int:
        return 15 if len(shown) == 3 else 0

    with (
        pytest.raises(Interrupted, match=r"after 3 images, kept in .*p.csv.partial") as caught,
        open_outputs(files, SETTINGS, False, None) as outputs,
    ):
        write_predictions(iter(PREDICTIONS), outputs, shown.append, stop)
    assert caught.value.status == 128 + 15 and not files["csv"].exists()
    inputs = ImageInputs(("-",), tuple(str(each.path) for each in PREDICTIONS))
    with open_outputs(files, SETTINGS, True, None) as outputs:
        remaining = list(outputs.remaining(inputs))
        assert remaining == [each.path for each in PREDICTIONS[3:]]
        counts = write_predictions(PREDICTIONS[3:], outputs, shown.append, lambda: 0)
    assert counts == (5, 1)  # the unreadable one was among the first
    assert files["csv"].read_bytes() == complete
    assert len(files["jsonl"].read_text().splitlines()) == len(PREDICTIONS)


def test_an_output_is_no_input(tmp_path: Path) -> None:
    image = tmp_path / "photos" / "cat.png"
    image.parent.mkdir()
    image.write_bytes(b"image")
    os.link(image, tmp_path / "link.csv")
    inputs = ImageInputs((str(image.parent),))
    assert check_inputs(inputs, [tmp_path / "new.csv"], tmp_path / "sorted") == 1
    with pytest.raises(UsageError, match="is one of the images"):
        check_inputs(inputs, [tmp_path / "link.csv"], None)
    with pytest.raises(UsageError, match="neither in it nor around it"):
        check_inputs(inputs, [], image.parent / "sorted")
    with pytest.raises(UsageError, match="neither in it nor around it"):
        check_inputs(inputs, [], tmp_path)
    with pytest.raises(UsageError, match="found the image .* in it"):
        check_inputs(ImageInputs((str(image),)), [], tmp_path)
    with pytest.raises(UsageError, match="no paths on standard input"):
        check_inputs(ImageInputs(("-",)), [], None)


# ---- folders of classes


def predicted(path: Path, name: str = "cat") -> Prediction:
    return Prediction(path, ((name, 1.0),))


def source(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(content)
    return folder / "photo.jpg"


def test_the_same_name_twice_gets_a_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    sources = [source(tmp_path / name, name.encode()) for name in ("one", "two", "three")]
    folders = class_folders(tmp_path / "sorted", ["cat"])
    targets = [folders.add(predicted(path)) for path in sources]
    assert [target.name for target in targets] == ["photo.jpg", "photo_2.jpg", "photo_3.jpg"]
    assert [target.read_bytes() for target in targets] == [b"one", b"two", b"three"]
    assert [path.read_bytes() for path in sources] == [b"one", b"two", b"three"]
    resuming = replace(folders, resume=True)
    assert [resuming.add(predicted(path)) for path in sources] == targets
    assert len(list((tmp_path / "sorted").rglob("*.jpg"))) == 3
    assert folders.add(predicted(sources[0])).name == "photo_4.jpg"


def test_an_image_with_the_longest_name_is_copied(tmp_path: Path) -> None:
    image = tmp_path / f"{'n' * 251}.jpg"
    image.write_bytes(b"pixels")
    target = class_folders(tmp_path / "sorted", ["cat"]).add(predicted(image))
    assert target.name == image.name and list(target.parent.iterdir()) == [target]


def test_images_are_linked_instead_of_copied(tmp_path: Path) -> None:
    image = source(tmp_path / "one", b"pixels")
    hard = class_folders(tmp_path / "hard", ["cat"], "hard").add(predicted(image))
    assert hard.samefile(image) and not hard.is_symlink()
    symbolic = class_folders(tmp_path / "symbolic", ["cat"], "symbolic")
    link = symbolic.add(predicted(image))
    assert link.is_symlink() and link.resolve() == image.resolve()
    assert replace(symbolic, resume=True).add(predicted(image)) == link


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("n01440764 tench, Tinca tinca", "n01440764 tench, Tinca tinca"),
        ("../../etc", "_.._etc"),
        ("..", "_"),
        ("", "_"),
        ("a/b\\c:d", "a_b_c_d"),
        ("nul", "_nul"),
        ("COM1.txt", "_COM1.txt"),
        ("dot. ", "dot"),
        ("line\nend", "line_end"),
        ("é" * 300, "é" * 100),
    ],
)
def test_class_names_become_names_of_folders(name: str, folder: str, tmp_path: Path) -> None:
    assert folder_name(name) == folder
    image = source(tmp_path / "photos", b"pixels")
    target = class_folders(tmp_path / "sorted", [name]).add(predicted(image, name))
    assert target.parent.parent == tmp_path / "sorted" and target.is_file()


def test_every_class_has_a_folder_of_its_own_where_case_is_ignored(tmp_path: Path) -> None:
    folders = class_folders(tmp_path, ["a/b", "a:b", "A_B", "a_b_2", "other"]).folders
    assert len({name.casefold() for name in folders.values()}) == 5
    assert folders["a/b"] == "a_b" and folders["other"] == "other"


def test_a_link_that_cannot_be_made_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    image = source(tmp_path / "one", b"pixels")
    monkeypatch.setattr(os, "link", other_disk)
    folders: ClassFolders = class_folders(tmp_path / "sorted", ["cat"], "hard")
    with pytest.raises(AlexNetError, match=r"cat: could not be written .*--link symbolic"):
        folders.add(predicted(image))
    require_outside(tmp_path / "sorted", [tmp_path / "one"])


def test_an_unreadable_image_is_in_no_folder(tmp_path: Path) -> None:
    folders = class_folders(tmp_path / "sorted", ["cat"])
    Outputs((), folders).write(Prediction(tmp_path / "bad.jpg", (), "cannot be read"))
    assert not (tmp_path / "sorted").exists()
