"""The Python API on a small dataset: the same results as the commands, as values."""

import doctest
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alexnet
from alexnet import api
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import DENSE
from alexnet.evaluation.evaluate import evaluate as evaluate_split
from alexnet.models.model_file import read_model_file
from alexnet.recipes import configure
from alexnet.recipes.configure import configure_recipe, settings_list
from alexnet.recipes.presets import get_recipe
from tests.conftest import CPU, INPUT

TINY = [
    *(f"network.layers.conv{number}.out_channels=16" for number in range(1, 6)),
    "network.layers.fc6.out_features=32",
    "network.layers.fc7.out_features=32",
    f"network.input=3,{INPUT},{INPUT}",
]
ON_CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32", "workers": 1}

Calls = list[tuple[int, int]]


@pytest.fixture
def calls() -> Calls:
    """The calls that a progress callback has received."""
    return []


@pytest.fixture
def progress(calls: Calls) -> Callable[[int, int], None]:
    def record(done: int, total: int) -> None:
        calls.append((done, total))

    return record


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The records that the training's callback has received."""
    return []


@pytest.fixture(scope="module")
def run(
    dataset: PreparedDataset,
    records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The directory of a finished run."""
    folder = tmp_path_factory.mktemp("api") / "run"
    summary = alexnet.train(
        dataset.path,
        recipe="original",
        out=folder,
        epochs=2,
        batch_size=16,
        settings=TINY,
        callback=records.append,
        **ON_CPU,
    )
    assert summary["epochs"] == 2 and summary["model"] == str(folder / "model.safetensors")
    return folder


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, alexnet; dir(alexnet); alexnet.__version__;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_is_listed_and_there() -> None:
    assert dir(alexnet) == sorted(alexnet.__all__)
    public = "create_model load_model prepare train evaluate predict RECIPES AlexNet Preprocessor"
    assert {*public.split(), "__version__"} <= set(dir(alexnet))
    for name in dir(alexnet):
        assert getattr(alexnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lenet'"):
        alexnet.lenet  # noqa: B018


def test_no_module_has_the_name_of_a_public_function() -> None:
    folder = Path(alexnet.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    assert not modules & set(alexnet.__all__)


@pytest.mark.parametrize("module", [alexnet, api, configure], ids=lambda module: module.__name__)
def test_the_examples_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_prepare_returns_its_counts(
    images: Path, tmp_path: Path, calls: Calls, progress: Callable[[int, int], None]
) -> None:
    path = tmp_path / "dataset"
    summary = alexnet.prepare(
        images, path, size=32, test_fraction=0.25, workers=1, progress=progress
    )
    assert summary.images == sum(summary.splits.values()) == 84
    assert summary.classes == 7 and summary.bad == 0
    assert calls[-1] == (84, 84)
    with pytest.raises(AlexNetError, match="already exists"):
        alexnet.prepare(images, path, size=32)
    with pytest.raises(UsageError, match="fraction"):
        alexnet.prepare(images, tmp_path / "other", val_fraction=0.5, test_fraction=0.5)
    assert not (tmp_path / "other").exists()


def test_files_that_are_no_images_are_counted(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "images"
    for label in ("dots", "down"):
        shutil.copytree(images / label, source / label)
    (source / "dots" / "notes.txt").write_text("no image")
    summary = alexnet.prepare(source, tmp_path / "dataset", size=16, workers=1)
    assert sum(summary.left_out.values()) == 1 and summary.images == 24


def test_train_reports_its_records_and_prints_nothing(
    run: Path, records: list[dict[str, Any]]
) -> None:
    kinds = [record["kind"] for record in records]
    assert kinds.count("epoch") == 2 and "step" in kinds


def test_train_refuses_before_any_work(
    dataset: PreparedDataset, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AlexNetError, match="holds a run already"):
        alexnet.train(dataset.path, out=run, settings=TINY, **ON_CPU)
    with pytest.raises(UsageError, match="nearest: original"):
        alexnet.train(dataset.path, recipe="orginal", out=tmp_path / "run", **ON_CPU)
    with pytest.raises(AlexNetError, match="--size"):
        alexnet.train(dataset.path, recipe="fashion", out=tmp_path / "run", **ON_CPU)
    assert not (tmp_path / "run").exists()
    output = capsys.readouterr()
    assert not output.out and not output.err


def test_train_starts_from_a_run_and_freezes(
    dataset: PreparedDataset, run: Path, tmp_path: Path
) -> None:
    summary = alexnet.train(
        dataset.path,
        recipe=get_recipe("original"),
        out=tmp_path / "run",
        epochs=1,
        batch_size=16,
        lr=0.001,
        settings=TINY,
        init_from=run,
        freeze_until="conv5",
        **ON_CPU,
    )
    before = read_model_file(run / "model.safetensors").model.state_dict()
    after = read_model_file(Path(summary["model"])).model.state_dict()
    assert (before["conv5.weight"] == after["conv5.weight"]).all()
    assert not (before["fc8.weight"] == after["fc8.weight"]).all()


def test_evaluate_takes_a_run_a_file_a_pair_and_an_ensemble(
    dataset: PreparedDataset, run: Path, calls: Calls, progress: Callable[[int, int], None]
) -> None:
    model_file = run / "model.safetensors"
    classifier = read_model_file(model_file)
    pair = alexnet.load_model(model_file)
    expected = evaluate_split([classifier], dataset.splits["test"], 1, CPU)
    for model in (run, model_file, str(run), pair, classifier, [run]):
        assert alexnet.evaluate(model, dataset.path, crops=1, **ON_CPU) == expected
    both = alexnet.evaluate(
        [run, pair], dataset.path, crops=1, weights=[1, 3], progress=progress, **ON_CPU
    )
    assert both.loss == pytest.approx(expected.loss) and both.top1_error == expected.top1_error
    count = len(dataset.splits["test"])
    assert calls[-1] == (count, count)


def test_evaluate_takes_crops_weights_splits_and_submissions(
    dataset: PreparedDataset, run: Path, tmp_path: Path
) -> None:
    classifier = read_model_file(run / "model.safetensors")
    val = dataset.splits["val"]
    expected = evaluate_split([classifier], val, DENSE, CPU)
    assert alexnet.evaluate(run, dataset.path, split="val", crops="dense", **ON_CPU) == expected
    submission = tmp_path / "guesses.txt"
    alexnet.evaluate([run, run], dataset.path, weights="val", submission=submission, **ON_CPU)
    lines = submission.read_text().splitlines()
    assert len(lines) == len(dataset.splits["test"]) and len(lines[0].split()) == 5
    with pytest.raises(UsageError, match="--weights"):
        alexnet.evaluate([run, run], dataset.path, weights=[1], **ON_CPU)
    with pytest.raises(AlexNetError, match="nosuch"):
        alexnet.evaluate(run, dataset.path, split="nosuch", **ON_CPU)
    with pytest.raises(UsageError, match="empty"):
        alexnet.evaluate([], dataset.path, **ON_CPU)


def test_evaluate_leaves_a_model_as_it_was(dataset: PreparedDataset, run: Path) -> None:
    model, preprocessor = alexnet.load_model(run / "model.safetensors")
    model.train()
    scores = alexnet.evaluate((model, preprocessor), dataset.path, crops=1, workers=1)
    assert model.training
    assert scores == alexnet.evaluate(run, dataset.path, crops=1, **ON_CPU)


def test_predict_takes_files_folders_images_and_arrays(
    run: Path, images: Path, calls: Calls, progress: Callable[[int, int], None]
) -> None:
    path = images / "dots" / "000.png"
    (expected,) = alexnet.predict(run, path, crops=1, **ON_CPU)
    assert len(expected.top) == 5 and expected.path == path and expected.error is None
    image = Image.open(path)
    for arguments in (str(path), [path], image, np.asarray(image), [np.asarray(image)]):
        (result,) = alexnet.predict(run, arguments, crops=1, **ON_CPU)
        assert result.top == expected.top
    (one,) = alexnet.predict(run, path, crops=1, top_k=1, **ON_CPU)
    assert one.top == expected.top[:1]
    folder = alexnet.predict(run, images / "dots", progress=progress, **ON_CPU)
    assert len(folder) == 12 and calls[-1] == (12, 12)
    several = alexnet.predict(run, [image, np.asarray(image)], **ON_CPU)
    assert [str(result.path) for result in several] == ["[0]", "[1]"]


def test_predict_says_what_it_cannot_read(run: Path, images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    good = images / "dots" / "000.png"
    bad, fine = alexnet.predict(run, [broken, good], **ON_CPU)
    assert bad.error and not bad.top and fine.top
    with pytest.raises(AlexNetError, match="no such file"):
        alexnet.predict(run, tmp_path / "missing.jpg", **ON_CPU)
    with pytest.raises(UsageError, match="one kind"):
        alexnet.predict(run, [good, np.zeros((9, 9, 3), np.uint8)], **ON_CPU)
    with pytest.raises(UsageError, match="uint8"):
        alexnet.predict(run, np.zeros((9, 9, 3)), **ON_CPU)
    with pytest.raises(UsageError, match="top_k"):
        alexnet.predict(run, good, top_k=0, **ON_CPU)
    with pytest.raises(AlexNetError, match=r"without model\.safetensors"):
        alexnet.predict(images, good, **ON_CPU)


def test_a_recipe_is_configured_in_the_order_of_its_arguments() -> None:
    recipe = configure_recipe(
        "original", epochs=10, batch_size=7, lr=0.5, settings=["training.batch_size=9"]
    )
    assert recipe.training.epochs == 10 and recipe.training.batch_size == 9
    assert recipe.training.lr.largest == 0.5
    assert configure_recipe(recipe) == recipe


def test_settings_are_a_dict_a_list_or_one_string(dataset: PreparedDataset, tmp_path: Path) -> None:
    expected = ["training.momentum=0.8"]
    for settings in ({"training.momentum": 0.8}, expected, tuple(expected), expected[0]):
        assert settings_list(settings) == expected
    changed: dict[str, Any] = {"network.input": (3, 67, 67), "augmentation.mirror": False}
    recipe = configure_recipe("original", settings=changed)
    assert recipe.network.input == (3, 67, 67)
    assert not recipe.augmentation.mirror
    for wrong in ([("training.momentum", 0.8)], 5):
        with pytest.raises(UsageError, match=r"settings: expected \{"):
            settings_list(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--set a: expected name=value"):
        alexnet.train(dataset.path, out=tmp_path / "run", settings="a", **ON_CPU)


def test_a_model_alone_is_refused(dataset: PreparedDataset, run: Path) -> None:
    model, preprocess = alexnet.load_model(run)
    image = np.zeros((9, 9, 3), np.uint8)
    message = r"found AlexNet, expected a path or the pair \(model, preprocess\)"
    for wrong in (model, [model, preprocess]):
        with pytest.raises(UsageError, match=message):
            alexnet.evaluate(wrong, dataset.path, **ON_CPU)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        alexnet.predict(model, image, **ON_CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [3, 12])
def test_classes_have_to_be_those_of_the_model(
    count: int, dataset: PreparedDataset, run: Path
) -> None:
    model, preprocess = alexnet.load_model(run)
    model.reset_classifier(count)
    image = np.zeros((9, 9, 3), np.uint8)
    message = rf"{count} outputs, the preprocessor 7 classes; .*preprocess.with_classes\("
    with pytest.raises(UsageError, match=message):
        alexnet.predict((model, preprocess), image, **ON_CPU)
    with pytest.raises(UsageError, match=message):
        alexnet.evaluate((model, preprocess), dataset.path, **ON_CPU)
    names = [f"class {number}" for number in range(count)]
    (prediction,) = alexnet.predict(
        (model, preprocess.with_classes(names)), image, top_k=count, **ON_CPU
    )
    assert {name for name, _ in prediction.top} == set(names)
