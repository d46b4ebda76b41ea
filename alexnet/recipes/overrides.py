"""Recipes as text: strict JSON both ways, and single settings by dotted name (`training.lr=0.02`).

A setting made of several values, as a schedule is, can be given whole in the same JSON that
recipe.json holds. Strict means that an unknown name is an error that lists the nearest known ones,
and that a value must have the type its field declares. So a setting that nothing reads cannot
exist, and a file of another version cannot be half understood.
"""

import ast
import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from alexnet.core.errors import UsageError
from alexnet.recipes import recipe
from alexnet.recipes.layers import Layer
from alexnet.recipes.schedules import Schedule

Json = Any

NUMBERS = {2: "two", 3: "three", 4: "four"}
EXAMPLES = ("3", "67", "67", "67")  # values of a setting that takes several

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *get_args(Layer),
        *get_args(Schedule),
        recipe.Network,
        recipe.Augmentation,
        recipe.ParamGroup,
        recipe.Training,
        recipe.Recipe,
    )
}


def to_json(value: Any) -> Json:
    """Return a frozen value as plain JSON data; dataclasses carry their name under "kind"."""
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {
            part.name: to_json(getattr(value, part.name)) for part in fields(value)
        }
    return [to_json(part) for part in value] if isinstance(value, tuple) else value


def from_json(data: Json) -> Any:
    """Return the frozen value that `to_json` wrote; anything it does not know is a UsageError."""
    if isinstance(data, list):
        return tuple(from_json(part) for part in data)
    if not isinstance(data, Mapping):
        return data
    kind: Any = KINDS.get(data.get("kind", ""))
    if kind is None:
        raise UsageError(
            f"a recipe with a part of kind {data.get('kind')}: expected one of {', '.join(KINDS)}"
        )
    arguments = {name: from_json(part) for name, part in data.items() if name != "kind"}
    known = {part.name for part in fields(kind)}
    if set(arguments) != known:
        wrong = ", ".join(sorted(set(arguments) ^ known))
        raise UsageError(
            f"a recipe whose {kind.__name__} differs in {wrong}; "
            "it was written by another version of alexnet"
        )
    for name, expected in get_type_hints(kind).items():
        _require_type(arguments[name], expected, f"{kind.__name__}.{name}")
    return kind(**arguments)


def override(value: recipe.Recipe, setting: str) -> recipe.Recipe:
    """Return the recipe with one setting changed, given as `dotted.name=value`; UsageError."""
    name, equals, text = setting.partition("=")
    name = name.strip()
    if not equals:
        raise UsageError(
            f"--set {setting}: expected name=value, for instance training.batch_size=64"
        )
    if name in ("training.epochs", "epochs"):
        raise UsageError(f"--set {name}: use --epochs, which stretches the schedules with the run")
    if name in ("training.lr", "lr") and not text.strip().startswith("{"):
        raise UsageError(
            f"--set {name}: use --lr, which sets the largest learning rate and keeps the schedule; "
            "or give a whole schedule as JSON, as recipe.json holds it"
        )
    if name.partition(".")[0] not in _names(value):
        raise UsageError(_unknown_setting(value, name))
    return cast(recipe.Recipe, _set(value, name.split("."), text.strip(), name))


def _unknown_setting(value: recipe.Recipe, name: str) -> str:
    """Return the message for a name that no group has: the whole names that end like it."""
    known = _nested_names(value)
    meant = [full for full in known if full.endswith(f".{name}")]
    if not meant:
        last = {full.rpartition(".")[2]: full for full in known}
        meant = [last[near] for near in get_close_matches(name, last, n=3)]
    if meant:
        return f"unknown setting {name}: did you mean {' or '.join(meant[:3])}?"
    groups = [part for part in _names(value) if is_dataclass(getattr(value, part))]
    return f"unknown setting {name}: expected one of {', '.join(f'{it}.NAME' for it in groups)}"


def _nested_names(value: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of a value, groups included."""
    parts = value if isinstance(value, tuple) else [getattr(value, it) for it in _names(value)]
    names = []
    for name, part in zip(_names(value), parts, strict=True):
        names.append(prefix + name)
        if _is_group(part):
            names += _nested_names(part, f"{prefix}{name}.")
    return names


def settings_by_name(value: Any, prefix: str = "") -> dict[str, Json]:
    """Return the settings of a recipe, as JSON data, by the dotted names that `override` takes."""
    parts = value if isinstance(value, tuple) else [getattr(value, it) for it in _names(value)]
    settings: dict[str, Json] = {}
    for name, part in zip(_names(value), parts, strict=True):
        if _is_group(part):
            settings |= settings_by_name(part, f"{prefix}{name}.")
        else:
            settings[prefix + name] = to_json(part)
    return settings


def _is_group(part: Any) -> bool:
    return is_dataclass(part) or (isinstance(part, tuple) and any(map(is_dataclass, part)))


def _set(value: Any, path: list[str], text: str, full_name: str) -> Any:
    """Return a value with the part at a path read from text; `full_name` is for errors."""
    if not path:
        names = ", ".join(_names(value))
        raise UsageError(f"{full_name} is a group of settings; name one of its parts: {names}")
    if isinstance(value, tuple):
        index = _find(path[0], _names(value), full_name)
        part = _set(value[index], path[1:], text, full_name)
        return (*value[:index], part, *value[index + 1 :])
    if not is_dataclass(value):
        raise UsageError(f"{full_name}: {path[0]} is one name too many; the setting ends before it")
    return _set_field(value, path, text, full_name)


def _set_field(value: Any, path: list[str], text: str, full_name: str) -> Any:
    """Return a dataclass with the part at a path, which begins with one of its fields, changed."""
    name = _names(value)[_find(path[0], _names(value), full_name)]
    part = getattr(value, name)
    expected = get_type_hints(type(value))[name]
    may_be_none = type(None) in get_args(expected)
    if len(path) == 1 and text.startswith("{"):
        return replace(value, **{name: _read_json(text, expected, full_name)})
    if len(path) > 1 or (is_dataclass(part) and not may_be_none):
        return replace(value, **{name: _set(part, path[1:], text, full_name)})
    value_read = _read(text, expected, full_name)
    if value_read == part:  # 2 is no change of 2.0, nor of the recipe's hash
        return value
    return replace(value, **{name: value_read})


def _names(value: Any) -> list[str]:
    """Return what can follow the dot: fields, or the names of a tuple's values (else indices)."""
    if not isinstance(value, tuple):
        return [part.name for part in fields(value)]
    return [
        getattr(part, "name", None) or getattr(part, "suffix", None) or str(index)
        for index, part in enumerate(value)
    ]


def _find(name: str, known: list[str], full_name: str) -> int:
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise UsageError(f"unknown setting {full_name}: no {name!r} here; nearest: {', '.join(near)}")


def _read(text: str, expected: Any, full_name: str) -> Any:
    python = {"true": "True", "false": "False", "none": "None"}.get(text.lower(), text)
    try:
        value_read = ast.literal_eval(python)
    except (ValueError, SyntaxError):
        value_read = text
    _require_type(value_read, expected, full_name)
    return float(value_read) if expected is float else value_read


def _read_json(text: str, expected: Any, full_name: str) -> Any:
    try:
        value_read = from_json(json.loads(text))
    except ValueError as error:
        raise UsageError(
            f"{full_name}={text}: not JSON ({error}); expected one value as recipe.json holds it"
        ) from error
    _require_type(value_read, expected, full_name)
    return value_read


def _require_type(value_read: Any, expected: Any, name: str) -> None:
    if not _fits(value_read, expected):
        kind = type(value_read).__name__
        shown = f": found {kind}," if is_dataclass(value_read) else f"={value_read!r}:"
        raise UsageError(f"{name}{shown} expected {_describe(expected)}")


def _fits(value_read: Any, expected: Any) -> bool:
    """Tell whether a value has the type that a field declares; an int fits a float."""
    origin = get_origin(expected)
    parts = get_args(expected)
    if origin is Literal:
        return value_read in parts
    if origin in (Union, types.UnionType):
        return any(_fits(value_read, part) for part in parts)
    if origin is tuple:
        return isinstance(value_read, tuple) and _tuple_fits(value_read, parts)
    if expected is float:
        return isinstance(value_read, int | float) and not isinstance(value_read, bool)
    return isinstance(value_read, expected) and (
        expected is bool or not isinstance(value_read, bool)
    )


def _tuple_fits(value_read: tuple[Any, ...], parts: tuple[Any, ...]) -> bool:
    inner = parts[:1] * len(value_read) if parts[-1] is Ellipsis else parts
    return len(value_read) == len(inner) and all(map(_fits, value_read, inner))


def _describe(expected: Any) -> str:
    """Describe a type to a user."""
    origin = get_origin(expected)
    if origin is Literal:
        return " or ".join(map(repr, get_args(expected)))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, get_args(expected)))
    if origin is tuple:
        return _describe_tuple(get_args(expected))
    return {type(None): "none"}.get(expected, getattr(expected, "__name__", str(expected)))


def _describe_tuple(parts: tuple[Any, ...]) -> str:
    """Describe several values to a user."""
    if parts[-1] is not Ellipsis:
        count = len(parts)
        return f"{NUMBERS[count]} numbers, for instance {','.join(EXAMPLES[:count])}"
    if get_origin(parts[0]) is tuple:
        return "pairs of numbers, for instance ((0,0.01),(10,0.001))"
    return f"several, each {_describe(parts[0])}"
