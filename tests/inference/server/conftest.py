"""What tests of several subjects serve: the model file of a small untrained network."""

from pathlib import Path

import pytest

from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import Classifier, read_model_file, save_model
from alexnet.recipes.presets import MODERN
from tests.conftest import tiny, tiny_classifier


@pytest.fixture(scope="module")
def path(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the model file of a small untrained network."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    classifier = tiny_classifier(tiny(MODERN), dataset)
    save_model(path, classifier.model, classifier.preprocessor)
    return path


@pytest.fixture(scope="module")
def classifier(path: Path) -> Classifier:
    """Read the model of that file."""
    return read_model_file(path)
