"""The whole pipeline by its commands, as a person or a program uses it.

In this process where that is enough, in one of its own where exit status, signals and streams
matter.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import alexnet.__main__ as program
from alexnet.data.prepared import open_dataset
from alexnet.training import trainer

TINY = [
    f"--set=network.layers.{name}.out_channels={out_channels}"
    for name, out_channels in zip(
        ("conv1", "conv2", "conv3", "conv4", "conv5"), (12, 16, 16, 16, 16), strict=True
    )
]
TINY += [
    "--set=network.layers.fc6.out_features=32",
    "--set=network.layers.fc7.out_features=32",
    "--set=network.input=3,67,67",
]

Command = Callable[..., Any]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs a command here; it returns status, standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alexnet", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


@pytest.fixture(scope="module")
def run_folder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared dataset and a finished run, made by the program."""
    folder = tmp_path_factory.mktemp("pipeline")
    run_command("prepare", images, folder / "dataset", "--size", 72, "--val-fraction", 0.25)
    run_command(
        "train",
        folder / "dataset",
        "--out",
        folder / "run",
        "--epochs",
        2,
        "--batch-size",
        16,
        *TINY,
    )
    return folder


def run_command(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, which must end with that status."""
    ended = subprocess.run(
        [sys.executable, "-m", "alexnet", *map(str, words)], capture_output=True, text=True
    )
    assert ended.returncode == status, ended.stderr
    return ended


def test_prepare_prints_its_counts(command: Command, images: Path, tmp_path: Path) -> None:
    status, out, _ = command("prepare", images, tmp_path / "dataset", "--size", 32, "--json")
    document = json.loads(out)
    assert status == 0
    assert set(document) == {"images", "classes", "splits", "left_out", "bad", "seconds"}
    assert document["images"] == sum(document["splits"].values()) == 84
    assert document["classes"] == 7 and document["bad"] == 0 and document["left_out"] == {}
    assert document["seconds"] > 0
    assert open_dataset(tmp_path / "dataset").decode_config.encoding == "raw"


def test_a_run_leaves_what_the_design_says(run_folder: Path) -> None:
    assert {path.name for path in (run_folder / "run").iterdir()} >= {
        "model.safetensors",
        "metrics.jsonl",
        "recipe.json",
        "checkpoints",
    }


def test_evaluate_scores_one_model_and_several(command: Command, run_folder: Path) -> None:
    model, dataset = run_folder / "run" / "model.safetensors", run_folder / "dataset"
    one = json.loads(command("evaluate", model, dataset, "--json")[1])
    two = json.loads(command("evaluate", model, model, dataset, "--json")[1])
    assert one["crops"] == 10 and one["split"] == "val"
    assert one["models"] == 1 and two["models"] == 2
    assert one["images"] == len(open_dataset(dataset).splits["val"])
    assert two["top1_error"] == one["top1_error"] and two["loss"] == pytest.approx(one["loss"])
    status, out, _ = command("evaluate", model, dataset, "--crops", 1)
    assert status == 0 and "top-1 error %" in out
    dense = json.loads(command("evaluate", model, dataset, "--dense", "--json")[1])
    assert dense["crops"] == "dense"


def test_a_run_stands_for_its_model(
    command: Command, run_folder: Path, images: Path, tmp_path: Path
) -> None:
    run = run_folder / "run"
    dataset = run_folder / "dataset"
    model = run / "model.safetensors"
    image = images / "dots" / "000.png"
    by_path = [command("evaluate", path, dataset, "--json")[1] for path in (run, model)]
    assert by_path[0] == by_path[1]
    by_path = [command("predict", path, image, "--json")[1] for path in (run, model)]
    assert by_path[0] == by_path[1]
    assert command("features", run, image, "--out", tmp_path / "rows.npy")[0] == 0
    assert command("neighbors", run, dataset, image, "--top-k", 2, "--json")[0] == 0
    assert command("show", "filters", run, "--out", tmp_path / "filters.png")[0] == 0


def test_predict_prints_for_people_programs_and_spreadsheets(
    command: Command, run_folder: Path, images: Path, tmp_path: Path
) -> None:
    model, image = run_folder / "run" / "model.safetensors", images / "dots" / "000.png"
    (answer,) = json.loads(
        command("predict", model, image, "--json", "--csv", tmp_path / "predictions.csv")[1]
    )
    assert answer["path"] == str(image) and len(answer["top"]) == 5
    assert sum(entry["probability"] for entry in answer["top"]) <= 1 + 1e-6
    assert command("predict", model, image)[1].startswith(f"{image}: {answer['top'][0]['class']}")
    assert (
        (tmp_path / "predictions.csv")
        .read_text()
        .splitlines()[1]
        .startswith(f"{image},{answer['top'][0]['class']}")
    )


def test_predict_shows_progress_for_more_than_one_batch_only(
    command: Command, run_folder: Path, images: Path
) -> None:
    _, _, err = command("predict", run_folder / "run", images / "dots" / "000.png")
    assert "predicting" not in err
    _, _, err = command("predict", run_folder / "run", images / "dots", images / "down")
    assert "predicting: 24 of 24 images" in err


def test_prepare_counts_one_unreadable_image_in_the_singular(
    command: Command, images: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for label in ("dots", "down"):
        shutil.copytree(images / label, photos / label)
    (photos / "dots" / "bad.png").write_bytes(b"no image")
    _, out, _ = command("prepare", photos, tmp_path / "dataset", "--size", 32)
    assert "1 image could not be read" in out


def test_an_unreadable_image_fails_predict_after_the_others_are_printed(
    command: Command, run_folder: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    status, out, err = command(
        "predict",
        run_folder / "run" / "model.safetensors",
        tmp_path / "bad.jpg",
        images / "dots" / "000.png",
    )
    assert status == 1 and len(out.splitlines()) == 2
    assert "1 of 2 images could not be read" in err


def test_report_and_describe_and_doctor(command: Command, run_folder: Path) -> None:
    status, out, _ = command("report", run_folder / "run", "--crops", 1)
    page = Path(out.strip()).read_text()
    assert status == 0 and "://" not in page.replace("http://www.w3.org", "")
    scored = json.loads(
        command(
            "evaluate",
            run_folder / "run" / "model.safetensors",
            run_folder / "dataset",
            "--crops",
            1,
            "--json",
        )[1]
    )
    assert f"{scored['top1_error']:.1f} % top-1 error" in page.replace("\N{NO-BREAK SPACE}", " ")
    document = json.loads(command("describe", "original", "--json")[1])
    assert document["parameters"] == 60_965_224 and document["layers"][0]["shape"] == [96, 55, 55]
    assert (
        document["training"]["epochs"] == 93 and document["augmentation"]["crop_group_size"] == 32
    )
    assert "torch" in json.loads(command("doctor", "--json")[1])


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["prepare", "nowhere", "dataset"], 1, "nowhere: not found"),
        (["prepare"], 2, "expected SOURCE and DATASET; see alexnet prepare --help"),
        (["prepare", "photos"], 2, "found 1 path; expected SOURCE DATASET"),
        (["prepare", "--merge", "part"], 2, "expected PART... and DATASET"),
        (["prepare", "cifar11", "dataset"], 2, "fashion-mnist, cifar10, caltech101, imagenette"),
        (["prepare", "photos", "dataset", "--sise", "3"], 2, "(see alexnet prepare --help)"),
        (["show", "filters"], 2, "(see alexnet show filters --help)"),
        (["train", "nowhere"], 1, "expected a prepared dataset"),
        (["train"], 2, "expected a DATASET"),
        (["train", "{dataset}", "--recipe", "orginal"], 2, "nearest: original"),
        (["train", "{dataset}", "--set", "training.bacth=3"], 2, "nearest: batch"),
        (["train", "{dataset}"], 2, "prepare with --size 256"),
        (["train", "{dataset}", "--recipe", "fashion"], 2, "--size 224 --grayscale"),
        (["train", "{dataset}", "--parallel", "pipeline", *TINY], 2, "--parallel pipeline"),
        (["train", "{dataset}", "--out", "{run}"], 1, "holds a run already"),
        (["train", "{dataset}", "--device", "cuda:77"], 2, "not available here"),
        (["train", "--resume", "{dataset}"], 1, "no run to resume"),
        (["evaluate", "{model}"], 2, "a DATASET"),
        (
            ["evaluate", "{model}", "{dataset}", "--submission", "{model}/answers.txt"],
            1,
            "could not be written",
        ),
        (["report", "{run}", "{run}", "--out", "both.txt"], 2, "ends in .html"),
        (
            ["evaluate", "{dataset}/dataset.json", "{dataset}"],
            1,
            "not a file of format alexnet-model/1",
        ),
        (["evaluate", "{model}", "{run}"], 1, "make one with `alexnet prepare"),
        (["evaluate", "{dataset}", "{dataset}"], 1, "without model.safetensors"),
        (["evaluate", "{model}", "{dataset}", "--crops", "1", "--dense"], 2, "one of them"),
        (["predict", "{model}", "nothing-*.jpg"], 1, "no such file"),
        (["describe", "lenet"], 2, "unknown recipe"),
        (["trian"], 2, "train"),
        (["train", "{dataset}", "--epochs", "0"], 2, "epochs"),
        (["train", "{dataset}", "--set", "training.batch_size=0"], 2, "expected 1 or more"),
        (["train", "{dataset}", "--set", "training.epochs=3"], 2, "use --epochs"),
        (
            ["train", "{dataset}", "--set", "training.lr.points=((5,.1),)"],
            2,
            "the first at epoch 0",
        ),
        (["train", "{dataset}", "--set", "network.layers.conv1.stride=0"], 2, "1 or more"),
        (
            ["train", "{dataset}", "--recipe", "paper", "--set", "network.input=3,67,99"],
            1,
            "set network.input=3,SIZE,SIZE",
        ),
    ],
)
def test_a_wrong_call_is_one_line_with_its_status(
    command: Command,
    run_folder: Path,
    words: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = {
        "dataset": run_folder / "dataset",
        "run": run_folder / "run",
        "model": run_folder / "run" / "model.safetensors",
    }
    monkeypatch.chdir(tmp_path)
    document, out, err = command(*(word.format(**paths) for word in words))
    assert not list(tmp_path.iterdir())
    last = err.strip().splitlines()[-1]
    assert (
        document == status
        and last.startswith("alexnet: ")
        and message in last
        and "Traceback" not in err
        and not out
    )


def test_the_traceback_is_there_when_asked_for(command: Command) -> None:
    assert "Traceback" in command("prepare", "nowhere", "dataset", "--debug")[2]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_resuming_ends_with_the_same_bits(
    number: int, status: int, run_folder: Path, tmp_path: Path
) -> None:
    dataset, words = run_folder / "dataset", ["--epochs", 30, "--batch-size", 4, *TINY]
    train = [sys.executable, "-m", "alexnet", "train", dataset, "--out", tmp_path / "run", *words]
    running = subprocess.Popen(
        [*map(str, train)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count('"step"') > 8):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == status and "state saved" in err and "Traceback" not in err
    run_command("train", "--resume", tmp_path / "run")
    run_command("train", dataset, "--out", tmp_path / "whole", *words)
    ends = [sorted((tmp_path / run / "checkpoints").iterdir())[-1] for run in ("run", "whole")]
    from alexnet.core.safetensors_io import read_tensors
    from alexnet.training.checkpoint import FORMAT

    parts, uninterrupted = (read_tensors(end, FORMAT)[0] for end in ends)
    assert all(bool((parts[name] == uninterrupted[name]).all()) for name in uninterrupted)


@pytest.mark.parametrize(
    "words", [["--grayscale"], ["--encoding", "jpeg"]], ids=["one channel", "jpeg"]
)
def test_odd_datasets_pass_through_every_command(
    words: list[str], command: Command, images: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    for label in ("dots", "down"):  # two classes, one batch an epoch
        shutil.copytree(images / label, few / label)
    channels = 1 if words == ["--grayscale"] else 3
    assert command("prepare", few, tmp_path / "dataset", "--size", 72, *words)[0] == 0
    net = [*TINY[:-1], f"--set=network.input={channels},67,67"]
    assert (
        command("train", tmp_path / "dataset", "--out", tmp_path / "run", "--epochs", 1, *net)[0]
        == 0
    )
    model = tmp_path / "run" / "model.safetensors"
    document = json.loads(
        command("evaluate", model, tmp_path / "dataset", "--split", "train", "--json")[1]
    )
    assert document["top5_error"] is None and 0 <= document["top1_error"] <= 100
    (answer,) = json.loads(command("predict", model, few / "dots" / "001.png", "--json")[1])
    assert len(answer["top"]) == 2
    report = json.loads(command("report", tmp_path / "run", "--split", "train", "--json")[1])
    assert report["top1_error"] == pytest.approx(document["top1_error"])
    (tmp_path / "dataset").rename(tmp_path / "moved")
    assert "is not there" in command("train", "--resume", tmp_path / "run")[2]
    assert command("train", tmp_path / "moved", "--resume", tmp_path / "run")[0] == 0
    assert (
        command("report", tmp_path / "run", "--split", "train", "--dataset", tmp_path / "moved")[0]
        == 0
    )
    status, _, err = command("train", "--resume", tmp_path / "run", "--epochs", 5)
    assert status == 2 and "--epochs: a resumed run keeps its own" in err


def test_a_run_of_a_gpu_goes_on_without_one(
    command: Command, run_folder: Path, tmp_path: Path
) -> None:
    assert (
        command("train", run_folder / "dataset", "--out", tmp_path / "run", "--epochs", 1, *TINY)[0]
        == 0
    )
    described = tmp_path / "run" / "recipe.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"device": "cuda:77"}))
    status, _, err = command("train", "--resume", tmp_path / "run")
    assert status == 2 and "--device cuda:77: not available here; use cpu, or auto" in err
    assert command("train", "--resume", tmp_path / "run", "--device", "auto")[0] == 0


def test_a_full_gpu_is_a_line_not_a_traceback(
    command: Command, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(trainer, "train", full)
    status, _, err = command("train", run_folder / "dataset", "--out", tmp_path / "run", *TINY)
    assert status == 1 and err.endswith(
        "alexnet: the GPU's memory ran out; try a smaller --batch-size\n"
    )


def test_json_goes_to_standard_output_alone(run_folder: Path, tmp_path: Path) -> None:
    ended = run_command(
        "train", run_folder / "dataset", "--out", tmp_path / "run", "--epochs", 1, "--json", *TINY
    )
    document = json.loads(ended.stdout)
    assert set(document) == {
        "epochs",
        "steps",
        "seconds",
        "images_per_second",
        "model",
        "best_epoch",
        "top1_error",
        "top5_error",
    }


def test_help_has_an_example_for_every_command(command: Command) -> None:
    for name in program.cli.commands:
        assert "Example" in command(name, "--help")[1]
