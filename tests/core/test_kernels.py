"""The compiled kernels: there is a library where there is a compiler, and the plain form elsewhere.

No machine loads what was compiled for another.
"""

import subprocess
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.kernels import library


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and nothing loaded yet."""
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path))
    monkeypatch.delenv("ALEXNET_KERNELS", raising=False)
    monkeypatch.setattr(library, "_load", library._load.__wrapped__)
    return tmp_path


def require_compiler() -> None:
    kernels, reason = library._load()
    if kernels is None:
        pytest.skip(reason)


def test_a_library_is_compiled_once_and_found_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_compiler()
    (path,) = (empty_cache / "kernels").iterdir()
    assert path.suffix == library.LIBRARY_SUFFIX
    monkeypatch.setattr(library, "_compile", lambda compiler, path: pytest.fail("compiled again"))
    assert library.load_library() is not None
    assert library.describe_form() == f"native, {path.name}"


def test_another_processor_gets_a_library_of_its_own(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_compiler()
    monkeypatch.setattr(library, "_processor_features", lambda: "flags: of an older processor")
    assert library.load_library() is not None
    assert len(list((empty_cache / "kernels").iterdir())) == 2


@pytest.mark.parametrize("suffix", [".so", ".dylib", ".dll"])
def test_a_library_has_the_name_of_its_system(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(library, "LIBRARY_SUFFIX", suffix)
    require_compiler()
    (path,) = (empty_cache / "kernels").iterdir()
    assert path.suffix == suffix and library.load_library() is not None


def test_without_openmp_or_the_processors_name_it_still_compiles(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_compiler()
    monkeypatch.setattr(library, "TARGET_FLAGS", (("--no-such-option",), ()))
    assert library.load_library() is not None


def test_without_a_compiler_the_plain_forms_are_used_and_the_reason_is_told(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    assert library.load_library() is None
    assert "no C++ compiler found" in library.describe_form()
    monkeypatch.setenv("ALEXNET_KERNELS", "native")
    with pytest.raises(AlexNetError, match="ALEXNET_KERNELS=native: no C\\+\\+ compiler.*install"):
        library.load_library()


def test_a_compiler_that_fails_gives_the_reason(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = empty_cache / "c++"
    broken.write_text(
        "#!/bin/sh\ntest \"$1\" = --version || { echo 'disk is full' >&2; exit 1; }\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty_cache}:/bin")
    monkeypatch.setattr(library, "COMPILERS", ("c++",))
    assert library.load_library() is None and "disk is full" in library.describe_form()
    assert not list((empty_cache / "kernels").iterdir())


def test_a_cache_that_cannot_be_written_is_not_needed(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_compiler()
    (empty_cache / "file").write_text("not a folder")
    monkeypatch.setenv("ALEXNET_CACHE", str(empty_cache / "file"))
    assert library.load_library() is not None


def test_a_library_that_is_in_use_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(source: Path, target: Path) -> None:
        raise PermissionError(13, "used by another process")

    monkeypatch.setattr(library.os, "replace", locked)
    with pytest.raises(PermissionError):
        library._install(tmp_path / "compiled", tmp_path / "library")
    (tmp_path / "library").touch()
    library._install(tmp_path / "compiled", tmp_path / "library")


def test_the_form_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert library.load_library() is None and "as ALEXNET_KERNELS asks" in library.describe_form()
    monkeypatch.setenv("ALEXNET_KERNELS", "fast")
    with pytest.raises(UsageError, match="ALEXNET_KERNELS=fast: expected native, plain"):
        library.load_library()


def test_the_source_needs_no_headers_but_the_compilers_own() -> None:
    headers = [
        line.split()[1]
        for line in library.SOURCE.read_text().splitlines()
        if line.startswith("#include")
    ]
    assert headers and all(
        name[0] == "<" and name.strip("<>").removesuffix(".h").isalpha() for name in headers
    )


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    require_compiler()
    compiler = next(filter(None, map(library.shutil.which, library.COMPILERS)))
    strict = ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-pragmas", "-Werror"]
    flags = [flag for flag in library.COMPILE_FLAGS if flag != "-w"]
    done = subprocess.run(
        [compiler, *flags, *strict, str(library.SOURCE), "-o", str(tmp_path / "kernels")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
