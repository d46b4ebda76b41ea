"""What the documents promise: every command, target and link in them is there."""

import re
from pathlib import Path

import pytest

import alexnet
from alexnet.__main__ import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_verb_and_option_named_exists(document: Path) -> None:
    lines = re.findall(r"(?:^ {4}|`|&& )(?:\.venv/bin/)?alexnet (\w+)([^`\n]*)", document.read_text(), re.MULTILINE)
    for verb, rest in lines:
        assert verb in cli.commands, f"{document.name} names the verb {verb}"
        options = {name for option in cli.commands[verb].params for name in option.opts}
        for option in re.findall(r"(?<= )--[\w-]+", rest.split(" && ")[0]):
            assert option in options, f"{document.name}: alexnet {verb} has no {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
        assert "://" in link or (document.parent / link).exists(), f"{document.name} links to {link}"


def test_every_make_target_named_exists() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^ {4}|`)make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(named) <= set(targets)


def test_the_face_is_what_it_says() -> None:
    assert all(getattr(alexnet, name) is not None for name in alexnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lenet'"):
        alexnet.lenet  # noqa: B018
