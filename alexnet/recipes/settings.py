"""Recipes as text: strict JSON both ways, and single settings by dotted name (`training.batch=64`).

A setting made of several values, as a schedule is, can be given whole in the same JSON that recipe.json holds.

Strict means that an unknown name is an error that lists the nearest known ones, and that a value must have the type its field
declares. So a setting that nothing reads cannot exist, and a file of another version cannot be half understood.
"""

import ast
import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from alexnet.errors import UsageError
from alexnet.recipes import layers, recipe, schedules

Json = Any

KINDS = {
    kind.__name__: kind
    for kind in (
        *(layers.Conv, layers.Local, layers.Full, layers.Norm, layers.SpatialNorm),
        *(layers.Pool, layers.Activation, layers.Dropout, layers.Fit),
        *(schedules.Steps, schedules.Line, schedules.Plateau),
        *(recipe.Network, recipe.Views, recipe.Apart, recipe.Training, recipe.Recipe),
    )
}


def to_json(value: Any) -> Json:
    """A frozen value as plain JSON data; dataclasses carry their name under "kind"."""
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {part.name: to_json(getattr(value, part.name)) for part in fields(value)}
    return [to_json(part) for part in value] if isinstance(value, tuple) else value


def from_json(data: Json) -> Any:
    """The frozen value that `to_json` wrote; anything it does not know is a UsageError."""
    if isinstance(data, list):
        return tuple(from_json(part) for part in data)
    if not isinstance(data, Mapping):
        return data
    kind = KINDS.get(data.get("kind", ""))
    if kind is None:
        raise UsageError(f"a recipe with a part of kind {data.get('kind')!r}: expected one of {', '.join(KINDS)}")
    given = {name: from_json(part) for name, part in data.items() if name != "kind"}
    known = {part.name for part in fields(kind)}
    if set(given) != known:
        wrong = ", ".join(sorted(set(given) ^ known))
        raise UsageError(f"a recipe whose {kind.__name__} differs in {wrong}; it was written by another version of alexnet")
    for name, expected in get_type_hints(kind).items():
        _require(given[name], expected, f"{kind.__name__}.{name}")
    return kind(**given)


def override(value: recipe.Recipe, setting: str) -> recipe.Recipe:
    """The recipe with one setting changed, given as `dotted.name=value`."""
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"--set {setting}: expected name=value, for instance training.batch=64")
    if name.strip() == "training.epochs":
        raise UsageError("--set training.epochs: use --epochs, which stretches the schedules with the run")
    return cast(recipe.Recipe, _set(value, name.strip().split("."), text.strip(), name.strip()))


def _set(value: Any, path: list[str], text: str, whole: str) -> Any:
    if not path:
        raise UsageError(f"{whole} is a group of settings; name one of its parts: {', '.join(_names(value))}")
    if isinstance(value, tuple):
        place = _find(path[0], _names(value), whole)
        part = _set(value[place], path[1:], text, whole)
        return (*value[:place], part, *value[place + 1 :])
    if not is_dataclass(value):
        raise UsageError(f"{whole}: {path[0]!r} is one name too many; the setting ends before it")
    part_name = _names(value)[_find(path[0], _names(value), whole)]
    part = getattr(value, part_name)
    expected = get_type_hints(type(value))[part_name]
    may_be_none = type(None) in get_args(expected)
    if len(path) == 1 and text.startswith("{"):
        return replace(cast(Any, value), **{part_name: _read_json(text, expected, whole)})
    if len(path) > 1 or (is_dataclass(part) and not may_be_none):
        return replace(cast(Any, value), **{part_name: _set(part, path[1:], text, whole)})
    found = _read(text, expected, whole)
    return value if found == part else replace(cast(Any, value), **{part_name: found})  # 2 is no change of 2.0, nor its hash


def _names(value: Any) -> list[str]:
    """What can follow the dot: a value's fields, or the names of the values in a tuple (their place where they have none)."""
    if isinstance(value, tuple):
        return [getattr(part, "name", None) or getattr(part, "suffix", None) or str(place) for place, part in enumerate(value)]
    return [part.name for part in fields(value)]


def _find(name: str, known: list[str], whole: str) -> int:
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise UsageError(f"unknown setting {whole}: no {name!r} here; nearest: {', '.join(near)}")


def _read(text: str, expected: Any, whole: str) -> Any:
    try:
        found = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        found = text
    _require(found, expected, whole)
    return float(found) if expected is float else found


def _read_json(text: str, expected: Any, whole: str) -> Any:
    try:
        found = from_json(json.loads(text))
    except ValueError as error:
        raise UsageError(f"{whole}={text}: not JSON ({error}); expected one value as recipe.json holds it") from error
    _require(found, expected, whole)
    return found


def _require(found: Any, expected: Any, name: str) -> None:
    if not _fits(found, expected):
        raise UsageError(f"{name}={found!r}: expected {_describe(expected)}")


def _fits(found: Any, expected: Any) -> bool:
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Literal:
        return found in parts
    if origin in (Union, types.UnionType):
        return any(_fits(found, part) for part in parts)
    if origin is tuple:
        inner = parts[:1] * len(found) if isinstance(found, tuple) and parts[-1] is Ellipsis else parts
        return isinstance(found, tuple) and len(found) == len(inner) and all(map(_fits, found, inner))
    if expected is float:
        return isinstance(found, int | float) and not isinstance(found, bool)
    return isinstance(found, expected) and (expected is bool or not isinstance(found, bool))


def _describe(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return " or ".join(map(repr, get_args(expected)))
    return getattr(expected, "__name__", str(expected)) if get_origin(expected) is None else str(expected)
