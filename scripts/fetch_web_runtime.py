"""Fetch ONNX Runtime Web from npm into the package, so that a wheel can export pages.

    python scripts/fetch_web_runtime.py

It needs npm, and downloads 33 MB. Nothing is done where the files are there already.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alexnet.core.errors import AlexNetError
from alexnet.inference.export.web_runtime import (
    FOLDER,
    PACKAGE,
    RUNTIME_FILES,
    unpack_runtime,
)


def main() -> None:
    """Fetch the files; exit with one line where that cannot be done."""
    if all((FOLDER / name).is_file() for name in RUNTIME_FILES):
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"{PACKAGE} was not fetched: npm is not installed")
    with TemporaryDirectory() as folder:
        ended = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=folder, stdout=subprocess.DEVNULL
        )
        archives = list(Path(folder).glob("*.tgz"))
        if ended.returncode or not archives:
            sys.exit(f"{PACKAGE} was not fetched: npm failed")
        try:
            unpack_runtime(archives[0], FOLDER)
        except AlexNetError as error:
            sys.exit(f"{PACKAGE} was not fetched: {error}")
    print(f"{PACKAGE}: {', '.join(RUNTIME_FILES)} in {FOLDER}")


if __name__ == "__main__":
    main()
