"""What the documents promise: names in them exist, links lead somewhere, and the examples run.

The commands and the Python code of both READMEs, of the quick start and of the pages of the Python
API and of the recipes run here in order, in a temporary folder with a few small images. Commands
that would take long get settings that make them quick (`QUICK`); `make` and `pip` lines are
checked, not run: they make the environment that the tests run in.
"""

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import alexnet
from alexnet.__main__ import cli, main
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import RECIPES, get_recipe

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
PAGES = [*READMES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    *READMES,
    *(ROOT / "docs" / name for name in ("quickstart.md", "python_api.md", "recipes.md")),
]

# Settings that make the network of a run small, and what is added to a command to make it quick.
TINY = [
    "network.input=3,67,67",
    *(f"network.layers.conv{number}.out_channels=16" for number in range(1, 6)),
    "network.layers.fc6.out_features=32",
    "network.layers.fc7.out_features=32",
]
QUICK = {
    "prepare": ["--size=72", "--workers=1"],
    "train": ["--epochs=1", "--batch-size=16", "--workers=1", *(f"--set={it}" for it in TINY)],
}
# The same for Python code: what is replaced in it.
QUICK_PYTHON = {"epochs=1": f"epochs=1, batch_size=16, workers=1, settings={TINY!r}"}
# What the page of the Python API takes for granted.
TRAINED = ["alexnet prepare photos dataset --test-fraction 0.1", "alexnet train dataset --out run"]

# Options in the documents that are not ours.
TORCHRUN_OPTIONS = {"--nproc-per-node", "--max-restarts", "--shutdown-timeout"}


@dataclass(frozen=True)
class Example:
    """A block of code in a document: its language, its text, and the line it begins at."""

    language: str
    text: str
    line: int


def examples(document: Path) -> Iterator[Example]:
    """Read the blocks of commands and Python code of a document that are to be run."""
    text = document.read_text(encoding="utf-8")
    block = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(sh|python)\n(.*?)^```", re.M | re.S)
    for names_found in block.finditer(text):
        if not names_found[1]:
            yield Example(
                names_found[2], names_found[3], text.count("\n", 0, names_found.start(3)) + 1
            )


def without_comments(code: str) -> list[str]:
    """Split code into lines and remove comments, spaces at the end and empty lines."""
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in code.splitlines())
    return [line for line in lines if line]


# ---- names


def subcommands(command: click.Command) -> dict[str, click.Command]:
    """Return the commands of a group by name; none for other commands."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    names_found = {
        name: command.get_command(context, name) for name in command.list_commands(context)
    }
    return {name: each for name, each in names_found.items() if each is not None}


def options(command: click.Command) -> set[str]:
    """Return the options of a command."""
    parameters = command.get_params(click.Context(command))
    return {"--debug"} | {name for each in parameters for name in each.opts + each.secondary_opts}


def all_options(command: click.Command) -> set[str]:
    """Return the options of a command and of everything below it."""
    below = [all_options(each) for each in subcommands(command).values()]
    return options(command).union(*below)


def named_commands(text: str) -> Iterator[str]:
    """Find what follows `alexnet` wherever a document shows a command."""
    names = "|".join(subcommands(cli))
    yield from re.findall(r"(?:^ {4}|^|`|&& )(?:\.venv/bin/)?alexnet (\w[^`\n]*)", text, re.M)
    yield from re.findall(r"-m alexnet ((?:train|evaluate)\b[^`\n]*)", text)
    yield from re.findall(rf"`((?:{names}) [^`\n]*--[^`\n]*)`", text)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_command_and_option_named_exists(document: Path) -> None:
    for line in named_commands(document.read_text(encoding="utf-8")):
        require_command(document.name, line)


def require_command(document: str, line: str) -> None:
    """Fail where a command line names a command or an option that does not exist."""
    command: click.Command = cli
    path = "alexnet"
    for word in re.split(r" && |\s#|\s{2,}", line)[0].split():
        below = subcommands(command)
        if below and not word.startswith("-"):
            names = word.strip(",:.").split("|")
            assert set(names) <= set(below), f"{document}: {path} has no {word}"
            command = below[names[0]]
            path = f"{path} {word}"
        flag = re.match(r"--[\w-]+", word)
        if flag and flag[0] != "--help":
            assert flag[0] in options(command), f"{document}: {path} has no {flag[0]}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_option_named_alone_exists(document: Path) -> None:
    alone = re.findall(r"`(--[a-z][\w-]*)[^`\n]*`", document.read_text(encoding="utf-8"))
    unknown = set(alone) - all_options(cli) - TORCHRUN_OPTIONS - {"--help"}
    assert not unknown, f"{document.name} names {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_setting_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for quoted, plain in re.findall(r"--set (?:'([^'\n]+)'|([\w.]+=[^\s`]+))", text):
        override(get_recipe("modern"), quoted or plain)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_name_of_the_python_api_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"\balexnet\.(?!(?:json|ipynb)\b)([A-Za-z_]\w*)", text))
    modules = {path.stem for path in (ROOT / "alexnet").iterdir()}
    unknown = named - set(alexnet.__all__) - modules
    assert not unknown, f"{document.name} names {', '.join(sorted(unknown))}"


def test_the_public_names_exist() -> None:
    assert all(getattr(alexnet, name) is not None for name in alexnet.__all__)
    assert set(alexnet.__all__) <= set(dir(alexnet))
    with pytest.raises(AttributeError, match="no attribute 'lenet'"):
        alexnet.lenet  # noqa: B018


def test_the_page_of_recipes_lists_all_of_them() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    table = text[text.index("## The recipes") : text.index("## The notation")]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.M)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == set(RECIPES)


# ---- links and files


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("document", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_file_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = (ROOT, ROOT / "alexnet")
    for path in re.findall(r"[` ]((?:[\w-]+/)+(?:[\w-]+\.(?:py|md|cpp|json))?)[`: ,]", text):
        top = path.split("/")[0]
        if any((folder / top).exists() for folder in folders):
            names_found = any((folder / path).exists() for folder in folders)
            assert names_found, f"{document.name} names {path}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_option_of_a_script_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for script, rest in re.findall(r"python (benchmarks/\w+\.py)([^`\n]*)", text):
        code = (ROOT / script).read_text(encoding="utf-8")
        for flag in re.findall(r" (--[\w-]+)", rest):
            assert f'"{flag}"' in code, f"{document.name}: {script} has no {flag}"


def test_every_figure_is_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"figures/([\w.-]+)", page.read_text())}
    assert {path.name for path in (ROOT / "docs" / "figures").iterdir()} <= shown


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_make_target_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"(?:^ {4}|^|`)make ([a-z-]+)", text, re.M):
        assert target in make_targets(), f"{document.name} names make {target}"


def make_targets() -> list[str]:
    """Return the targets of the Makefile."""
    return re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


# ---- the two READMEs


def test_both_readmes_show_the_same_code() -> None:
    english, chinese = (list(examples(document)) for document in READMES)
    assert english and len(english) == len(chinese)
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours.language == theirs.language
        assert without_comments(ours.text) == without_comments(theirs.text)


def test_both_readmes_have_the_same_structure_and_numbers() -> None:
    english, chinese = (document.read_text(encoding="utf-8") for document in READMES)
    for pattern in (r"^#+ ", r"^- ", r"!?\[.*?\]\(", r"^ {4}\S"):
        assert len(re.findall(pattern, english, re.M)) == len(re.findall(pattern, chinese, re.M))
    assert table_numbers(english) == table_numbers(chinese)


def table_numbers(text: str) -> list[list[str]]:
    """Return the numbers of every row of a document's tables, sorted within a row."""
    rows = re.findall(r"^\|.*", text, re.M)
    return [sorted(re.findall(r"\d+(?:[.,]\d+)*", row)) for row in rows]


# ---- the examples


@pytest.fixture
def run_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Return a function that runs a command line in a folder with photos/ and cat.jpg."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path)

    def run(line: str) -> None:
        program, *words = shlex.split(line)
        assert program == "alexnet", f"{line}: expected alexnet"
        added = QUICK.get(words[0], [])
        monkeypatch.setattr(sys, "argv", [program, *words, *added])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert not ended.value.code, f"{line}: {output.err}"

    return run


def write_photos(folder: Path) -> None:
    """Write photos/ with 20 images of each of three classes, and cat.jpg; the same each time."""
    random = np.random.default_rng(0)
    for label, color in (("cat", (200, 60, 40)), ("cow", (40, 160, 60)), ("dog", (50, 60, 190))):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = (np.array(color) + random.integers(-40, 40, (80, 96, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number:03d}.jpg")
    Image.fromarray(pixels).save(folder / "cat.jpg")


@pytest.mark.parametrize("document", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_run(document: Path, run_command: Callable[[str], None]) -> None:
    names_found = list(examples(document))
    assert names_found, f"{document.name} has no examples"
    if document.name == "python_api.md":
        for line in TRAINED:
            run_command(line)
    names: dict[str, object] = {"__name__": document.stem}
    for example in names_found:
        if example.language == "python":
            run_python(document, example, names)
            continue
        for line in without_comments(example.text):
            if not is_installation(line):
                run_command(line)


def run_python(document: Path, example: Example, names: dict[str, object]) -> None:
    """Run an example in the namespace of those before it; its lines are those of the document."""
    if "captum" in example.text and importlib.util.find_spec("captum") is None:
        return
    code = example.text
    for old, new in QUICK_PYTHON.items():
        code = code.replace(old, new)
    exec(compile("\n" * (example.line - 1) + code, str(document), "exec"), names)


def is_installation(line: str) -> bool:
    """Whether a line is one of make or pip; then fail where it asks for what does not exist."""
    program, *words = shlex.split(line)
    if program == "make":
        assert set(words) <= set(make_targets()), line
    elif program == "pip":
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8").split()
        assert words[0] == "install", line
        assert all(word == "." or word in constraints + makefile for word in words[1:]), line
    return program in ("make", "pip")
