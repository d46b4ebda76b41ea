"""Prediction: equal to evaluation, and never ended by a bad picture."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.data.store import Store
from alexnet.evaluate import Seer, predictions
from alexnet.model import view_of
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.named import MODERN
from alexnet.serving.predict import predict_files, write_csv
from tests.conftest import CPU, tiny


@pytest.fixture(scope="module")
def seer(store: Store) -> Seer:
    recipe = tiny(MODERN)
    return start(AlexNet(recipe.network, len(store.classes)), 0).eval(), view_of(store, recipe)


def quiet(done: int, of: int) -> None:
    pass


def test_a_file_gets_what_its_record_gets(seer: Seer, store: Store, pictures: Path) -> None:
    split = store.splits["val"]
    answers = list(predict_files(seer, [pictures / name for name in split.names], 10, CPU, quiet))
    shares = torch.cat([part for part, _ in predictions([seer], split, 10, CPU, quiet)])
    for answer, share in zip(answers, shares, strict=True):
        assert dict(answer.top)[store.classes[int(share.argmax())]] == float(share.max())
        assert [p for _, p in answer.top] == share.sort(descending=True).values[:5].tolist()


def test_a_bad_picture_is_an_answer_with_a_reason(seer: Seer, pictures: Path, tmp_path: Path) -> None:
    good = sorted(pictures.rglob("*.png"))[0]
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("not a picture")
    files = [tmp_path / "cut.png", good, tmp_path / "text.jpg"]
    answers = list(predict_files(seer, files, 1, CPU, quiet))
    assert [answer.error is None for answer in answers] == [False, True, False]
    assert answers[1].top == next(iter(predict_files(seer, [good], 1, CPU, quiet))).top
    write_csv(tmp_path / "answers.csv", answers)
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert rows[1]["class_1"] == answers[1].top[0][0] and "cannot be read" in rows[0]["error"]


def test_answers_never_exceed_the_classes(seer: Seer, pictures: Path) -> None:
    network, view = seer
    few = start(AlexNet(network.description, 3), 0).eval(), replace(view, classes=("a", "b", "c"))
    answer = next(iter(predict_files(few, sorted(pictures.rglob("*.png"))[:1], 1, CPU, quiet)))
    assert len(answer.top) == 3 and sum(share for _, share in answer.top) == pytest.approx(1)
