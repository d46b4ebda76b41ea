"""The rules of the house, enforced: imports flow upstream, functions stay short, nothing happens at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alexnet"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import from rooms that stand before it, and within its own.
RIVER = (
    *("errors", "cores", "cache", "randomness", "durable", "tensorfile", "recipes", "ranks", "runtime", "native"),
    *("data", "network", "model", "evaluate", "ensemble", "parallel"),
)
UPSTREAM = {
    **{room: RIVER[:place] for place, room in enumerate(RIVER)},
    "durable": ("errors",),
    "tensorfile": ("errors", "durable"),
    "recipes": ("errors",),
    "ranks": ("errors",),
    "cores": (),
    "runtime": ("errors", "cores", "ranks"),
    "cache": (),
    "native": ("errors", "cache"),
    "network": ("errors", "randomness", "recipes", "native"),
    "parallel": ("recipes", "errors", "ranks", "runtime", "network"),
    "training": RIVER,
    "insight": RIVER,
    "serving": RIVER,
    "weights": RIVER,
    "measure": (*RIVER, "training"),
    "terminal": (),
    "demo": (*RIVER, "training", "insight", "terminal"),
    "verbs": (*RIVER, "training", "insight", "serving", "weights", "measure", "terminal", "demo"),
    "__main__": ("errors", "verbs"),
    "__init__": ("model", "network", "recipes"),
}
# Files that may import more than their room may.
BESIDE: dict[tuple[str, ...], tuple[str, ...]] = {("insight", "experiments", name): ("training",) for name in ("runs", "conduct")}
# The order within a room that has one.
WITHIN = {
    "data": (
        *("ahead", "images", "pixels", "sources", "arrays", "idx", "cifar", "ilsvrc", "open", "download", "remote", "store"),
        *("embedded", "unfinished", "prepare", "merge", "views", "batches", "groups"),
    ),
    "insight": ("runs", "words", "operators", "figures", "nearest", "experiments", "report"),
}


def name_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def imports(path: Path) -> set[tuple[str, ...]]:
    """The package's own modules that a module imports, as parts below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "imports name the whole path"
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {(*node.module.split("."), alias.name) for alias in node.names}
    return {parts[1:] for parts in found if parts[0] == "alexnet" and parts[1:] and parts[1] != "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_imports_flow_upstream(path: Path) -> None:
    room, *inner = name_of(path)
    for other, *rest in imports(path):
        if other != room:
            allowed = (*UPSTREAM[room], *BESIDE.get(name_of(path), ()))
            assert other in allowed, f"{'.'.join(name_of(path))} imports {other}, which is not upstream of it"
        elif room in WITHIN and rest and inner and rest[0] != inner[0]:
            order = WITHIN[room]
            assert order.index(rest[0]) < order.index(inner[0]), f"{room}/{inner[0]} imports {rest[0]}, which is not upstream"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_modules_say_what_they_are_and_functions_stay_short(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module opens by saying what passes through it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, alexnet, alexnet.__main__; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_network_does_without_torchs_compiler() -> None:
    code = "import sys, alexnet.network.alexnet; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "it takes longer to import than torch itself"


def test_pictures_can_be_prepared_without_torch() -> None:
    code = "import sys, alexnet.data.prepare, alexnet.data.embedded; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
