"""The model card says what is known of a model and what is not, and shows names as names."""

import ast
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt  # rich brings it

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.export.model_card import (
    MeasuredError,
    escape_markdown,
    model_card,
    write_model_card,
)
from alexnet.models.model_file import Classifier, read_model_file
from alexnet.recipes.presets import MODERN, get_recipe
from alexnet.training import trainer
from tests.conftest import tiny, tiny_classifier, tiny_config

FORMATS = ("onnx", "torch-export", "openvino", "state-dict", "caffemodel", "page", "model")
ODD_NAMES = (
    "<img src=x onerror=alert(1)>",
    "*star* and _line_ and ~~gone~~",
    "`code` | cell",
    "[link](http://host) ![image](x)",
    "two\n# lines",
    "&lt; \\ &amp;",
    "$math$",
)


class Texts(HTMLParser):
    """The text of a page, and the tags in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Texts:
    """Return a Markdown document as its reader sees it, HTML in it included."""
    page = Texts()
    page.feed(MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(markdown))
    return page


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(MODERN), dataset)


def test_names_stay_names(classifier: Classifier) -> None:
    preprocessor = replace(classifier.preprocessor, classes=ODD_NAMES)
    provenance = {"dataset_name": ODD_NAMES[0], "val_top1_error": 1.0}
    odd = replace(classifier, preprocessor=preprocessor, provenance=provenance)
    page = rendered(model_card(odd, "a`b](.pt2", "torch-export"))
    for name in ODD_NAMES:
        assert " ".join(name.split()) in page.text
    assert page.tags <= {"h1", "h2", "p", "ul", "li", "pre", "code"}
    assert page.tags == rendered(model_card(classifier, "b.pt2", "torch-export")).tags
    assert escape_markdown("plain, 1.5") == "plain, 1.5"


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_has_code_that_loads_it(format_name: str, classifier: Classifier) -> None:
    card = model_card(classifier, 'my "model`.file', format_name)
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == (0 if format_name == "page" else 1)
    for block in blocks:
        texts = [
            node.value for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Constant)
        ]
        assert 'my "model`.file' in texts


def test_a_trained_model_tells_its_data_and_its_error(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    config = tiny_config(dataset, tiny(MODERN, epochs=1, batch_size=32))
    summary = trainer.train(config, tmp_path / "run", lambda record: None)
    trained = read_model_file(Path(summary["model"]))
    card = write_model_card(trained, tmp_path / "model.onnx", "onnx")
    text = card.read_text(encoding="utf-8")
    assert card == tmp_path / "MODEL.md"
    assert f"Top-1 error: {summary['top1_error']:.2f} %" in text
    assert config.val is not None
    assert (
        f"the val split of {len(config.val)} images, one crop of each image, after epoch 1" in text
    )
    assert f"- Dataset: {dataset.path.name}\n" in text
    assert f"- Training images: {len(config.train)}\n" in text
    assert f"- Classes: {', '.join(dataset.classes)}\n" in text
    assert dataset.digest in text


def test_what_is_not_known_is_said(classifier: Classifier) -> None:
    text = model_card(classifier, "model.onnx", "onnx")
    assert "Not measured." in text and "Training images: not recorded" in text
    assert "## License\n\nNot recorded." in text
    error = MeasuredError(37.5, None, "on the test split of 150,000 images, ten crops of each")
    text = model_card(classifier, "model.onnx", "onnx", error)
    assert "Top-1 error: 37.50 %" in text and "150,000 images, ten crops" in text
    assert "Top-5" not in text and "Not measured" not in text


def test_imported_weights_are_told_from_trained_ones(classifier: Classifier) -> None:
    provenance = {
        "imported": "alexnet.pth",
        "sha256": "7be5be79",
        "license": "BSD-3-Clause",
        "source": "https://example.org",
    }
    recipe = replace(classifier.recipe, name=get_recipe("owt").name)
    imported = replace(classifier, recipe=recipe, provenance=provenance)
    text = model_card(imported, "model.onnx", "onnx")
    assert "- Weights: alexnet.pth\n" in text and "Not by this program." in text
    assert "BSD-3-Clause, as published with the weights" in text
    assert "Learning rate" not in text
    many = replace(
        imported, preprocessor=classifier.preprocessor.with_classes([f"c{i}" for i in range(1000)])
    )
    assert "c19 and 980 more\n" in model_card(many, "model.onnx", "onnx")
