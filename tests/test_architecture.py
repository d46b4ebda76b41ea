"""The rules of the package, enforced: the order of imports, short functions, portability, names."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alexnet"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
BENCHMARKS = sorted(PACKAGE.with_name("benchmarks").glob("*.py"))
MAX_LINES = 60  # of a function

# The stages of the pipeline, in order. A module belongs to the stage with the longest prefix of its
# name, and imports only from its own stage and earlier ones. Stages on one line do not import from
# each other.
STAGES: tuple[tuple[str, ...], ...] = (
    ("core.errors",),
    ("distributed.process_group",),
    ("core",),
    ("recipes",),
    ("data.images", "data.prefetch", "data.dataset_format"),
    ("data.readers",),
    ("data",),
    ("models",),
    ("evaluation",),
    ("distributed",),
    ("training",),
    ("analysis",),
    ("inference",),
    ("benchmark",),
    ("api",),
    ("demo",),
    ("cli",),
    ("__main__",),
    ("__init__",),
)
# Exceptions inside functions: a layer's spec makes the module that computes it.
LATE_IMPORTS = {("recipes.layers", "models.layers"), ("recipes.layers", "models.shapes")}


def name_of(path: Path) -> str:
    """Return a module's name below the package; a folder's __init__ has that of the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def stage_of(module: str) -> tuple[int, str]:
    """Return the number and the prefix of a module's stage."""
    matches = [
        (len(prefix), number, prefix)
        for number, stage in enumerate(STAGES)
        for prefix in stage
        if f"{module}.".startswith(f"{prefix}.")
    ]
    assert matches, f"{module} belongs to no stage; add it to STAGES in {Path(__file__).name}"
    _, number, prefix = max(matches)
    return number, prefix


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports of the package, as dotted names below it."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports give the whole path"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("alexnet.") and name != "alexnet.__version__":
                yield name.removeprefix("alexnet.")


def imports_in_functions(tree: ast.AST) -> set[str]:
    """Return what is imported in the functions of a module, or for its type checker, only."""
    late = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return {name for node in late for name in imports(node)}


def may_import(module: str, other: str) -> bool:
    number, prefix = stage_of(module)
    other_number, other_prefix = stage_of(other)
    return other_number < number or other_prefix == prefix


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_import_only_from_earlier_stages(path: Path) -> None:
    module = name_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        name
        for name in imports_in_functions(tree)
        if any(module == one and f"{name}.".startswith(f"{two}.") for one, two in LATE_IMPORTS)
    }
    wrong = [name for name in imports(tree) if name not in late and not may_import(module, name)]
    assert not wrong, f"{module} imports {', '.join(wrong)}: not from an earlier stage"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_have_a_docstring_and_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module opens by saying what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_LINES, f"{node.name} has {length} lines"


# ---- what is imported when


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_help_needs_no_torch() -> None:
    heavy = ("torch", "numpy", "rich", "PIL")
    done = run_python(
        "import sys, alexnet, alexnet.__main__;"
        f"sys.exit(', '.join(name for name in {heavy} if name in sys.modules))"
    )
    assert not done.stderr.strip(), done.stderr


def test_the_model_needs_no_torch_compiler() -> None:
    done = run_python(
        "import sys, alexnet.models.alexnet; sys.exit('torch._dynamo' in sys.modules)"
    )
    assert done.returncode == 0, f"it takes longer to import than torch itself {done.stderr}"


def test_images_can_be_prepared_without_torch() -> None:
    done = run_python(
        "import sys, alexnet.data.build, alexnet.data.synthetic; sys.exit('torch' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


# Imports every module of the package as if this system had only what all systems have. Libraries
# are imported before, and may go on using what there is.
IMPORT_WITHOUT_POSIX = """
import builtins, contextlib, importlib, os, pkgutil, signal, sys
import click, filelock, matplotlib.figure, numpy, PIL.Image, platformdirs, rich.progress, torch
import concurrent.futures.process, multiprocessing, subprocess, tempfile, torch.distributed

# not on every system, or extras
OPTIONAL = {"triton", "tensorboard", "wandb", "mlflow", "huggingface_hub"}
for name in OPTIONAL - {"triton"}:
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "syslog"}
import_module = builtins.__import__

def portable_import(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name.split(".")[0] in MODULES and importer.split(".")[0] == "alexnet":
        raise ImportError(f"{importer} imports {name}")
    return import_module(name, globals, locals, fromlist, level)

builtins.__import__ = portable_import
for module, names in {
    os: ("sched_getaffinity", "pread", "execv", "fork", "confstr", "getuid", "statvfs"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "alarm", "pause"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

import alexnet

failed = set()
for found in pkgutil.walk_packages(alexnet.__path__, "alexnet."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            failed.add(str(error))
    except (AttributeError, ImportError) as error:
        failed.add(str(error))
print("\\n".join(sorted(failed)))
"""


def test_every_module_can_be_imported_on_every_system() -> None:
    done = run_python(IMPORT_WITHOUT_POSIX)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout


# ---- names

# Words that were replaced by the field's. Only what is defined here counts (functions, classes,
# parameters, variables, fields), not what other libraries call theirs.
#
# Not to be part of a name:
PARTS = frozenset(
    "picture pictures colour colours coloured grey centre centres normalise normalised neighbour "
    "neighbours house river station stations anew".split()
)
# Not to be a name by themselves; as a part of one they may be ordinary English.
NAMES = frozenset(
    # participles that do not say what a value is
    "told said asked found seen held kept made taken drawn begun resumed turned shrunk wanted "
    "given "
    # concepts
    "place places verb verbs way ways arm arms room rooms view views lesson tell tick aside beside "
    "behind but less whole within takes gives apart together leads "
    # recipes and training
    "rate rates bias_rate decay_rate decay smoothing overhang planned complaint complaints newest "
    "blind_loss shared_by noise_unit noise_divides round_conv round_pool adopt keep_all "
    # data, parallel, benchmark
    "unfinished embedded durable tensorfile must_be must_agree from_first settle cuts cut holder "
    "holders wire swap walk traffic accounting subject subjects rounds ceilings blueprint conduct "
    "outcomes portions".split()
)
CLASSES = frozenset(
    "Full Norm SpatialNorm Fit Local Apart Steps Line Plateau Task Told Lesson Net Saved Views "
    "Policy Colour Draws Planned Alone Data Towers Layers Cut Need Elsewhere Sparse Folder Mapped "
    "Position Stream Tick".split()
)
FILES = frozenset(
    "house river randomness durable tensorfile terminal cores sources ilsvrc idx dataset_store "
    "pixels ahead unfinished groups embedded named others settings geometry blocks joined "
    "accounting start ways cuts wire walk traffic whole tasks loop making looking showing using "
    "machine rounds subjects stock floor ceilings words seen maps step characters blueprint cells "
    "autoencoder arms conduct outcomes portions test_house test_river at_work seeds "
    "neighbours".split()
)
KEYS = frozenset("pictures pictures_per_second seed_operations".split())
FLAG = re.compile(
    r"--(grey|on-bad|init|freeze|station|views|codes|rounds|terminal|pictures)(?![\w-])"
)


def definitions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the lines and names of what a module defines; of classes and functions, too."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)):
                yield node.lineno, name


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the lines and values of strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def is_replaced(name: str) -> bool:
    """Return whether a name is one of the replaced words, or has one as a part."""
    bare = name.strip("_")
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare).lower().split("_")
    return bare in CLASSES or bare.lower() in NAMES or not PARTS.isdisjoint(parts)


def offenders(path: Path) -> Iterator[str]:
    """Yield a line for every replaced word in a file."""
    where = path.relative_to(PACKAGE.parent).as_posix()
    if path.stem in FILES or not PARTS.isdisjoint(path.stem.split("_")):
        yield f"{where}: the file's name"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, name in definitions(tree):
        if is_replaced(name):
            yield f"{where}:{line}: {name}"
    for line, text in texts(tree):
        if text in KEYS:
            yield f'{where}:{line}: the key "{text}"'
        for flag in FLAG.finditer(text):
            yield f"{where}:{line}: the flag {flag[0]}"


def test_names_are_those_of_the_field() -> None:
    files = [path for path in (*MODULES, *TESTS, *BENCHMARKS) if path != Path(__file__)]
    lines = [line for path in files for line in offenders(path)]
    assert not lines, f"{len(lines)} replaced words:{os.linesep}" + os.linesep.join(lines)
