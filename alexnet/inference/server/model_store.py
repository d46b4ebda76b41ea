"""The models that the service answers with, by name; each is read when it is first asked for."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.inference.server.api_error import ApiError
from alexnet.models.model_file import (
    MODEL_FILE,
    Classifier,
    ModelInfo,
    load_classifier,
    read_model_info,
)
from alexnet.training.run_dir import read_recipe

MAX_LOADED = 4  # a model of ImageNet's classes takes 244 MB


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model under its name, with the dataset it was trained on where that is known."""

    name: str
    path: Path  # of the model file
    classifier: Classifier
    dataset: str | None
    changed: int  # the file's time in ns when it was read

    @property
    def version(self) -> tuple[str, int]:
        """Return what tells this model from others and from its own earlier versions."""
        return str(self.path), self.changed


class ModelStore:
    """Named models: those given at the start, then the finished or running runs below a folder."""

    def __init__(self, paths: Mapping[str, Path], folder: Path | None, runtime: Runtime) -> None:
        self._paths = dict(paths)
        self._folder = folder
        self._runtime = runtime
        self._loaded: dict[str, ServedModel] = {}
        self._infos: dict[Path, tuple[int, ModelInfo]] = {}  # the file's time, what it says
        self._lock = threading.Lock()

    def paths(self) -> dict[str, Path]:
        """Return the model file of every name, the given models first."""
        paths = dict(self._paths)
        if self._folder is not None:
            for file in sorted(self._folder.glob(f"*/{MODEL_FILE}")):
                paths.setdefault(file.parent.name, file)
        return paths

    def initial_names(self) -> list[str]:
        """Return the names of the models that were given at the start."""
        return list(self._paths)

    def get(self, name: str | None = None) -> ServedModel:
        """Return a model by its name, the first one by default; ApiError 404 for another name.

        A file that has changed is read again: a run replaces its best model as it goes.
        """
        paths = self.paths()
        if not paths:
            raise ApiError(404, "there is no model yet")
        name = name or next(iter(paths))
        if name not in paths:
            raise ApiError(404, f"model {name[:80]!r}: not found; expected {', '.join(paths)}")
        with self._lock:
            return self._read(name, paths[name])

    def infos(self) -> dict[str, tuple[Path, ModelInfo]]:
        """Return the file and the description of every model; files that are none are left out."""
        infos: dict[str, tuple[Path, ModelInfo]] = {}
        for name, path in self.paths().items():
            try:
                infos[name] = path, self._info(path)
            except (AlexNetError, OSError):
                continue
        return infos

    def _info(self, path: Path) -> ModelInfo:
        changed = path.stat().st_mtime_ns
        known = self._infos.get(path)
        if known is None or known[0] != changed:
            known = changed, read_model_info(path)
            self._infos[path] = known
        return known[1]

    def _read(self, name: str, path: Path) -> ServedModel:
        try:
            changed = path.stat().st_mtime_ns
            loaded = self._loaded.pop(name, None)
            if loaded is None or loaded.changed != changed:
                classifier = load_classifier(path, self._runtime)
                loaded = ServedModel(name, path, classifier, dataset_of_run(path.parent), changed)
        except (AlexNetError, OSError) as error:
            raise ApiError(404, f"model {name!r}: {error}") from error
        self._loaded[name] = loaded  # the last used one is at the end
        while len(self._loaded) > MAX_LOADED:
            self._loaded.pop(next(iter(self._loaded)))
        return loaded


def require_unchanged(model: ServedModel) -> None:
    """Raise AlexNetError where a model's file is not the one that was read.

    Results are kept under the file's hash: those of the model before must not be.
    """
    try:
        changed = model.path.stat().st_mtime_ns
    except OSError:
        changed = None
    if changed != model.changed:
        raise AlexNetError(f"model {model.name!r}: its file has just changed; ask again")


def dataset_of_run(folder: Path) -> str | None:
    """Return the location of the dataset that a run was trained on; None where it is not known."""
    try:
        return str(read_recipe(folder)["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
