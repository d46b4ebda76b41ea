"""The compiled kernels: had where there is a compiler, done without where there is none, and never another machine's."""

import subprocess
from pathlib import Path

import pytest

from alexnet.errors import AlexNetError, UsageError
from alexnet.native import library as native


@pytest.fixture
def afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and nothing loaded yet."""
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path))
    monkeypatch.delenv("ALEXNET_KERNELS", raising=False)
    monkeypatch.setattr(native, "_loaded", native._loaded.__wrapped__)
    return tmp_path


def needs_a_compiler() -> None:
    if native._loaded()[0] is None:
        pytest.skip(native._loaded()[1])


def test_a_library_is_compiled_once_and_found_again(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_compiler()
    (made,) = (afresh / "kernels").iterdir()
    monkeypatch.setattr(native, "_compile", lambda compiler, path: pytest.fail("compiled again"))
    assert native.library() is not None and native.state() == f"native, {made.name}"


def test_another_processor_gets_a_library_of_its_own(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_compiler()
    monkeypatch.setattr(native, "_features", lambda: "flags: of an older processor")
    assert native.library() is not None
    assert len(list((afresh / "kernels").iterdir())) == 2


def test_without_openmp_or_the_processors_name_it_still_compiles(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_compiler()
    refused = (("--no-such-option",), ())
    monkeypatch.setattr(native, "CHOICES", refused)
    assert native.library() is not None


def test_without_a_compiler_the_plain_forms_are_used_and_it_is_said(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(afresh))
    assert native.library() is None and "no C++ compiler found" in native.state()
    monkeypatch.setenv("ALEXNET_KERNELS", "native")
    with pytest.raises(AlexNetError, match="ALEXNET_KERNELS=native: no C\\+\\+ compiler.*install"):
        native.library()


def test_a_compiler_that_fails_says_why(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = afresh / "c++"
    broken.write_text("#!/bin/sh\ntest \"$1\" = --version || { echo 'no room on the moon' >&2; exit 1; }\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{afresh}:/bin")
    monkeypatch.setattr(native, "COMPILERS", ("c++",))
    assert native.library() is None and "no room on the moon" in native.state()
    assert not list((afresh / "kernels").iterdir())


def test_a_cache_that_takes_no_files_is_done_without(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_compiler()
    (afresh / "file").write_text("not a folder")
    monkeypatch.setenv("ALEXNET_CACHE", str(afresh / "file"))
    assert native.library() is not None


def test_the_form_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert native.library() is None and "as ALEXNET_KERNELS asks" in native.state()
    monkeypatch.setenv("ALEXNET_KERNELS", "fast")
    with pytest.raises(UsageError, match="ALEXNET_KERNELS=fast: expected native, plain"):
        native.library()


def test_the_source_needs_no_headers_but_the_compilers_own() -> None:
    included = [line.split()[1] for line in native.SOURCE.read_text().splitlines() if line.startswith("#include")]
    assert included and all(name[0] == "<" and name.strip("<>").removesuffix(".h").isalpha() for name in included)


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    needs_a_compiler()
    compiler = next(filter(None, map(native.shutil.which, native.COMPILERS)))
    strict = [flag for flag in native.ALWAYS if flag != "-w"] + [
        "-Wall",
        "-Wextra",
        "-Wno-psabi",
        "-Wno-unknown-pragmas",
        "-Werror",
    ]
    done = subprocess.run([compiler, *strict, str(native.SOURCE), "-o", str(tmp_path / "k.so")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
