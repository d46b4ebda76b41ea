"""The whole river by its verbs, as a person or a program would use it: in one process where that is enough, by the command itself
where exit status, signals and streams matter."""

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

import alexnet.__main__ as verbs
from alexnet.data.store import open_store
from alexnet.training import loop

TINY = [
    f"--set=network.layers.{name}.maps={maps}"
    for name, maps in zip(("conv1", "conv2", "conv3", "conv4", "conv5"), (12, 16, 16, 16, 16), strict=True)
]
TINY += ["--set=network.layers.fc6.units=32", "--set=network.layers.fc7.units=32", "--set=network.input=3,67,67"]

Verb = Callable[..., Any]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb in this process; its status and what it said on standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alexnet", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            verbs.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def run_folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared store and a finished run, made by the command."""
    folder = tmp_path_factory.mktemp("river")
    command("prepare", pictures, folder / "store", "--size", 72, "--val-fraction", 0.25)
    command("train", folder / "store", "--out", folder / "run", "--epochs", 2, "--batch-size", 16, *TINY)
    return folder


def command(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which must end with that status."""
    ended = subprocess.run([sys.executable, "-m", "alexnet", *map(str, words)], capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    return ended


def test_prepare_says_what_it_made(verb: Verb, pictures: Path, tmp_path: Path) -> None:
    status, out, _ = verb("prepare", pictures, tmp_path / "store", "--size", 32, "--json")
    found = json.loads(out)
    assert status == 0 and found["pictures"] == 84 and found["classes"] == 7 and found["bad"] == 0 and found["seconds"] > 0
    assert open_store(tmp_path / "store").policy.encoding == "raw"


def test_a_run_leaves_what_the_design_says(run_folder: Path) -> None:
    assert {path.name for path in (run_folder / "run").iterdir()} >= {
        "model.safetensors",
        "metrics.jsonl",
        "recipe.json",
        "checkpoints",
    }


def test_evaluate_scores_one_model_and_several(verb: Verb, run_folder: Path) -> None:
    model, store = run_folder / "run" / "model.safetensors", run_folder / "store"
    one = json.loads(verb("evaluate", model, store, "--json")[1])
    two = json.loads(verb("evaluate", model, model, store, "--json")[1])
    assert one["views"] == 10 and one["split"] == "val" and one["models"] == 1 and two["models"] == 2
    assert one["pictures"] == len(open_store(store).splits["val"])
    assert two["top1_error"] == one["top1_error"] and two["loss"] == pytest.approx(one["loss"])
    status, out, _ = verb("evaluate", model, store, "--views", 1)
    assert status == 0 and "top-1 error %" in out


def test_predict_answers_people_programs_and_spreadsheets(verb: Verb, run_folder: Path, pictures: Path, tmp_path: Path) -> None:
    model, picture = run_folder / "run" / "model.safetensors", pictures / "dots" / "000.png"
    (answer,) = json.loads(verb("predict", model, picture, "--json", "--csv", tmp_path / "answers.csv")[1])
    assert answer["path"] == str(picture) and len(answer["top"]) == 5
    assert sum(place["probability"] for place in answer["top"]) <= 1 + 1e-6
    assert verb("predict", model, picture)[1].startswith(f"{picture}: {answer['top'][0]['class']}")
    assert (tmp_path / "answers.csv").read_text().splitlines()[1].startswith(f"{picture},{answer['top'][0]['class']}")


def test_a_bad_picture_fails_the_verb_after_the_others_are_answered(
    verb: Verb, run_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    status, out, err = verb(
        "predict", run_folder / "run" / "model.safetensors", tmp_path / "bad.jpg", pictures / "dots" / "000.png"
    )
    assert status == 1 and len(out.splitlines()) == 2 and "1 of 2 pictures could not be read" in err


def test_report_and_describe_and_doctor(verb: Verb, run_folder: Path) -> None:
    status, out, _ = verb("report", run_folder / "run", "--views", 1)
    page = Path(out.strip()).read_text()
    assert status == 0 and "://" not in page.replace("http://www.w3.org", "")
    scored = json.loads(
        verb("evaluate", run_folder / "run" / "model.safetensors", run_folder / "store", "--views", 1, "--json")[1]
    )
    assert f"{scored['top1_error']:.1f} % top-1 error" in page.replace("\N{NO-BREAK SPACE}", " ")
    found = json.loads(verb("describe", "original", "--json")[1])
    assert found["parameters"] == 60_965_224 and found["layers"][0]["shape"] == [96, 55, 55]
    assert "torch" in json.loads(verb("doctor", "--json")[1])


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["prepare", "nowhere", "store"], 1, "nowhere: not found"),
        (["train", "nowhere"], 1, "expected a store"),
        (["train"], 2, "expected a STORE"),
        (["train", "{store}", "--recipe", "orginal"], 2, "nearest: original"),
        (["train", "{store}", "--set", "training.bacth=3"], 2, "nearest: batch"),
        (["train", "{store}"], 1, "prepare others with --size"),
        (["train", "{store}", "--out", "{run}"], 1, "holds a run already"),
        (["train", "{store}", "--device", "cuda:77"], 2, "not available here"),
        (["train", "--resume", "{store}"], 1, "no run to resume"),
        (["evaluate", "{model}"], 2, "a store"),
        (["evaluate", "{model}", "{store}", "--submission", "{model}/answers.txt"], 1, "could not be written"),
        (["report", "{run}", "{run}", "--out", "both.txt"], 2, "ends in .html"),
        (["evaluate", "{store}/store.json", "{store}"], 1, "not a file of format alexnet-model/1"),
        (["evaluate", "{model}", "{run}"], 1, "no store.json in it"),
        (["predict", "{model}", "nothing-*.jpg"], 1, "no such file"),
        (["describe", "lenet"], 2, "unknown recipe"),
        (["trian"], 2, "train"),
        (["train", "{store}", "--epochs", "0"], 2, "epochs"),
        (["train", "{store}", "--set", "training.batch=0"], 2, "expected 1 or more"),
        (["train", "{store}", "--set", "training.epochs=3"], 2, "use --epochs"),
        (["train", "{store}", "--set", "training.rate.points=((5,.1),)"], 2, "the first at epoch 0"),
        (["train", "{store}", "--set", "network.layers.conv1.stride=0"], 2, "1 or more"),
        (["train", "{store}", "--recipe", "paper", "--set", "network.input=3,67,99"], 1, "views are squares"),
    ],
)
def test_a_wrong_call_is_one_line_with_its_status(
    verb: Verb, run_folder: Path, words: list[str], status: int, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"store": run_folder / "store", "run": run_folder / "run", "model": run_folder / "run" / "model.safetensors"}
    monkeypatch.chdir(tmp_path)
    found, out, err = verb(*(word.format(**places) for word in words))
    assert not list(tmp_path.iterdir())
    last = err.strip().splitlines()[-1]
    assert found == status and last.startswith("alexnet: ") and complaint in last and "Traceback" not in err and not out


def test_the_traceback_is_there_when_asked_for(verb: Verb) -> None:
    assert "Traceback" in verb("prepare", "nowhere", "store", "--debug")[2]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_resuming_ends_with_the_same_bits(number: int, status: int, run_folder: Path, tmp_path: Path) -> None:
    store, words = run_folder / "store", ["--epochs", 30, "--batch-size", 4, *TINY]
    train = [sys.executable, "-m", "alexnet", "train", store, "--out", tmp_path / "run", *words]
    running = subprocess.Popen([*map(str, train)], stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count('"step"') > 8):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == status and "state saved" in err and "Traceback" not in err
    command("train", "--resume", tmp_path / "run")
    command("train", store, "--out", tmp_path / "whole", *words)
    ends = [sorted((tmp_path / run / "checkpoints").iterdir())[-1] for run in ("run", "whole")]
    from alexnet.tensorfile import read_tensors
    from alexnet.training.checkpoint import FORMAT

    parts, whole = (read_tensors(end, FORMAT)[0] for end in ends)
    assert all(bool((parts[name] == whole[name]).all()) for name in whole)


@pytest.mark.parametrize("words", [["--grey"], ["--encoding", "jpeg"]], ids=["one channel", "jpeg"])
def test_odd_stores_pass_through_every_verb(words: list[str], verb: Verb, pictures: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for label in ("dots", "down"):  # two classes, one batch an epoch
        shutil.copytree(pictures / label, few / label)
    channels = 1 if words == ["--grey"] else 3
    assert verb("prepare", few, tmp_path / "store", "--size", 72, *words)[0] == 0
    net = [*TINY[:-1], f"--set=network.input={channels},67,67"]
    assert verb("train", tmp_path / "store", "--out", tmp_path / "run", "--epochs", 1, *net)[0] == 0
    model = tmp_path / "run" / "model.safetensors"
    found = json.loads(verb("evaluate", model, tmp_path / "store", "--split", "train", "--json")[1])
    assert found["top5_error"] is None and 0 <= found["top1_error"] <= 100
    (answer,) = json.loads(verb("predict", model, few / "dots" / "001.png", "--json")[1])
    assert len(answer["top"]) == 2
    told = json.loads(verb("report", tmp_path / "run", "--split", "train", "--json")[1])
    assert told["top1_error"] == pytest.approx(found["top1_error"])
    (tmp_path / "store").rename(tmp_path / "moved")
    assert "is not there" in verb("train", "--resume", tmp_path / "run")[2]
    assert verb("train", tmp_path / "moved", "--resume", tmp_path / "run")[0] == 0
    assert verb("report", tmp_path / "run", "--split", "train", "--store", tmp_path / "moved")[0] == 0
    status, _, err = verb("train", "--resume", tmp_path / "run", "--epochs", 5)
    assert status == 2 and "--epochs: a resumed run keeps its own" in err


def test_a_run_of_a_gpu_goes_on_without_one(verb: Verb, run_folder: Path, tmp_path: Path) -> None:
    assert verb("train", run_folder / "store", "--out", tmp_path / "run", "--epochs", 1, *TINY)[0] == 0
    described = tmp_path / "run" / "recipe.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"device": "cuda:77"}))
    status, _, err = verb("train", "--resume", tmp_path / "run")
    assert status == 2 and "--device cuda:77: not available here; use cpu, or auto" in err
    assert verb("train", "--resume", tmp_path / "run", "--device", "auto")[0] == 0


def test_a_gpu_without_room_is_a_line_not_a_traceback(verb: Verb, run_folder: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(loop, "train", full)
    status, _, err = verb("train", run_folder / "store", "--out", tmp_path / "run", *TINY)
    assert status == 1 and err.endswith("alexnet: the GPU's memory ran out; try a smaller --batch-size\n")


def test_json_goes_to_standard_output_alone(run_folder: Path, tmp_path: Path) -> None:
    ended = command("train", run_folder / "store", "--out", tmp_path / "run", "--epochs", 1, "--json", *TINY)
    found = json.loads(ended.stdout)
    assert set(found) == {"epochs", "steps", "seconds", "pictures_per_second", "model", "top1_error", "top5_error"}


def test_help_has_an_example_for_every_verb(verb: Verb) -> None:
    for name in verbs.cli.commands:
        assert "Example" in verb(name, "--help")[1]
