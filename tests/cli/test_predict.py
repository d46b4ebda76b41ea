"""What predict prints and writes for many images: streamed, sorted into folders, resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import model_digest, write_model_file
from alexnet.recipes.presets import MODERN
from tests.conftest import tiny, tiny_classifier

ON_CPU = ("--crops", "1", "--device", "cpu", "--precision", "fp32", "--workers", "1")


@pytest.fixture(scope="module")
def model(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    classifier = tiny_classifier(tiny(MODERN), dataset)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    weights = classifier.model.state_dict()
    write_model_file(path, weights, classifier.preprocessor, classifier.recipe, {})
    return path


def predict(model: Path, *words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["predict", *map(str, (model, *words)), *ON_CPU], input=stdin)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_output_has_the_same_answers(model: Path, images: Path, tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    lines = tmp_path / "p.jsonl"
    ended = predict(model, images / "dots", "--csv", table, "--jsonl", lines, "--json")
    assert ended.exit_code == 0, ended.output
    answers = json.loads(ended.stdout)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == answers
    assert [row["path"] for row in rows(table)] == [answer["path"] for answer in answers]
    assert [row["class_1"] for row in rows(table)] == [each["top"][0]["class"] for each in answers]
    assert sorted(tmp_path.iterdir()) == [table, lines]
    plain = predict(model, images / "dots").stdout.splitlines()
    assert [line.partition(": ")[0] for line in plain] == [answer["path"] for answer in answers]


def test_paths_come_from_standard_input(model: Path, images: Path, tmp_path: Path) -> None:
    paths = sorted((images / "dots").iterdir())[:3]
    newline = tmp_path / "a\nb.png"
    newline.write_bytes(paths[0].read_bytes())
    text = "".join(f"{path}\n" for path in paths)
    listed = predict(model, "-", "--json", stdin=text.encode())
    assert [each["path"] for each in json.loads(listed.stdout)] == [str(path) for path in paths]
    listed = predict(model, "-", "-0", "--json", stdin=os.fsencode(newline) + b"\0")
    assert [each["path"] for each in json.loads(listed.stdout)] == [str(newline)]
    gone = predict(model, "-", "--json", stdin=f"gone.png\n{paths[0]}".encode())
    assert [each.get("error") for each in json.loads(gone.stdout)] == [
        "cannot be read: No such file or directory",
        None,
    ]
    assert "1 of 2 images could not be read" in str(gone.exception)


def test_images_are_sorted_into_folders_of_their_classes(
    model: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    root = tmp_path / "sorted"
    words = (images / "dots", images / "down", tmp_path / "bad.png")
    ended = predict(model, *words, "--sort-into", root, "--json")
    assert isinstance(ended.exception, AlexNetError)  # the unreadable one
    answers = [each for each in json.loads(ended.stdout) if each["top"]]
    folders = sorted(target.parent.name for target in root.rglob("*.png"))
    assert folders == sorted(each["top"][0]["class"] for each in answers)
    contents = sorted(target.read_bytes() for target in root.rglob("*.png"))
    assert contents == sorted(Path(each["path"]).read_bytes() for each in answers)
    refused = predict(model, images, "--sort-into", images / "sorted")
    assert isinstance(refused.exception, UsageError) and not (images / "sorted").exists()


def test_options_that_do_not_go_together_are_refused(
    model: Path, images: Path, tmp_path: Path
) -> None:
    image = images / "dots" / "000.png"
    before = image.read_bytes()
    same = tmp_path / "p"
    for words, text in (
        (("--resume",), "expected --csv or --jsonl"),
        (("--link", "hard"), "expected --sort-into"),
        (("--null",), "expected - as a PATH"),
        (("--csv", same, "--jsonl", same), "expected two files"),
        (("--csv", image), "is one of the images"),
        (("--csv", image.parent), "Is a directory"),
        (("--csv", ""), "Is a directory"),
    ):
        refused = predict(model, image, *words)
        assert isinstance(refused.exception, AlexNetError)
        assert text in str(refused.exception)
    assert image.read_bytes() == before and not list(tmp_path.iterdir())


def test_a_resumed_file_is_that_of_one_run(model: Path, images: Path, tmp_path: Path) -> None:
    complete = tmp_path / "whole.csv"
    predict(model, images, "--csv", complete)
    part = tmp_path / "part.csv"
    lines = complete.read_bytes().splitlines(keepends=True)
    (tmp_path / "part.csv.partial").write_bytes(b"".join(lines[:20]) + lines[20][:9])
    settings = {"model": model_digest(model), "crops": 1, "top_k": 5}
    (tmp_path / "part.csv.partial.json").write_text(json.dumps(settings))
    lost = predict(model, images, "--csv", part)
    assert isinstance(lost.exception, AlexNetError) and "--resume" in str(lost.exception)
    other = predict(model, images, "--csv", part, "--resume", "--top-k", "3")
    assert "resume with the same model, --crops and --top-k" in str(other.exception)
    ended = predict(model, images, "--csv", part, "--resume", "--json")
    assert ended.exit_code == 0, ended.output
    assert len(json.loads(ended.stdout)) == len(lines) - 20
    assert part.read_bytes() == complete.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process alone")
def test_control_c_leaves_a_file_to_resume(model: Path, images: Path, tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    command = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "alexnet",
            "predict",
            model,
            *[images] * 40,
            "--csv",
            table,
            *ON_CPU,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = tmp_path / "p.csv.partial"
    with command as process:
        while not (partial.exists() and partial.stat().st_size > 1000):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert f"kept in {partial}; the same command with --resume continues" in err
    assert partial.exists() and not table.exists()
    done = len(rows(partial))
    assert 0 < done < 40 * len(list(images.rglob("*.png")))
