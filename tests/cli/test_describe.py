"""What describe prints: the whole recipe in words, with its dataset's number of classes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from alexnet.__main__ import cli
from alexnet.cli.describe import class_count, find_recipe
from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import write_model_file
from alexnet.recipes.overrides import override, to_json
from alexnet.recipes.presets import get_recipe
from tests.conftest import tiny, tiny_classifier

NAMES = ["original", "paper", "modern", "caffe", "fashion", "cifar-11pct", "figure1"]


def describe(*words: str) -> str:
    ended = CliRunner(env={"COLUMNS": "100"}).invoke(cli, ["describe", *words])
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_shown_whole_and_never_as_python(name: str) -> None:
    text = describe(name)
    training = get_recipe(name).training
    for title in ("network", "augmentation", "training"):
        assert f"\n{title} " in text
    assert f"{training.momentum:g}" in text and f"{training.weight_decay:g}" in text
    for python in ("points=", "Piecewise", "ReduceOnPlateau(", "ParamGroup", "None", "((0"):
        assert python not in text


def test_learning_rates_of_parameter_groups_are_shown() -> None:
    text = describe("original")
    assert "conv1.weight" in text and "0 from epoch 72" in text


@pytest.mark.parametrize(
    ("name", "classes"),
    [("original", 1000), ("fashion", 10), ("cifar-18pct", 10), ("cifar-11pct", 10)],
)
def test_the_number_of_classes_is_that_of_the_recipes_dataset(name: str, classes: int) -> None:
    recipe = get_recipe(name)
    assert class_count(recipe, None) == classes and class_count(recipe, 7) == 7
    document = json.loads(describe(name, "--json"))
    assert document["classes"] == classes and document["layers"][-1]["shape"][0] == classes
    assert f"{name}, {classes:,} classes" in describe(name)


def test_a_program_gets_the_layers_the_totals_and_the_recipe() -> None:
    document = json.loads(describe("paper", "--json", "--set", "training.momentum=0.8"))
    keys = {"name", "shape", "parameters", "neurons", "multiply_adds", "parameter_positions"}
    assert all(keys <= set(layer) for layer in document["layers"])
    assert document["parameters"] == sum(layer["parameters"] for layer in document["layers"])
    assert document["training"]["momentum"] == 0.8
    assert document["augmentation"]["test_crops"] == 10


def test_an_unnamed_variant_of_a_recipe_keeps_its_classes() -> None:
    recipe = get_recipe("fashion")
    assert class_count(replace(recipe, training=get_recipe("modern").training), None) == 10


def test_the_recipe_of_a_run_is_shown_also_before_it_has_a_model(tmp_path: Path) -> None:
    recipe = override(get_recipe("fashion"), "training.momentum=0.85")
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": to_json(recipe)}))
    (tmp_path / "metrics.jsonl").write_text("")
    assert "0.85" in describe(str(tmp_path))


def test_the_recipe_of_a_model_is_shown_with_its_classes(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    trained = tiny_classifier(tiny(get_recipe("modern")), dataset)
    path = tmp_path / "model.safetensors"
    write_model_file(path, trained.model.state_dict(), trained.preprocessor, trained.recipe, {})
    for name in (path, tmp_path):
        document = json.loads(describe(str(name), "--json"))
        assert document["classes"] == 7 and document["layers"][0]["shape"][0] == 12


def test_what_is_neither_a_recipe_nor_a_run_is_refused(tmp_path: Path) -> None:
    for name in ("orginal", str(tmp_path)):
        with pytest.raises(UsageError, match="(unknown|no) recipe .*a run's directory$"):
            find_recipe(name)


def test_the_training_resolution_is_that_of_a_smaller_input() -> None:
    text = describe("modern", "--set", "network.input=3,67,67")
    assert "67 px" in text and "131 px" not in text
