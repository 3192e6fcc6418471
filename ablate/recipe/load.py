"""Read a recipe from YAML: `extends`, environment variables and overrides, with the place of every value.

YAML is 1.2 (ruamel.yaml), so `1e-3` is a number and `on` is a string.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from ablate.errors import Place, RecipeError

Location = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PATHS: tuple[Location, ...] = (("data", "root"), ("model", "weights"))


@dataclass
class Document:
    """A recipe as plain values, and where each of them was written."""

    values: dict[str, Any]
    places: dict[Location, Place] = field(default_factory=dict)

    def place(self, location: Location) -> Place:
        """The place of a value, or of the nearest thing around it that was written."""
        for end in range(len(location), -1, -1):
            if (found := self.places.get(location[:end])) is not None:
                return found
        return Place("recipe")


def read_document(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Document:
    """Read one recipe file with everything that it extends, then apply overrides.

    Args:
        path: The YAML file.
        overrides: Values by dotted name, such as `{"model.arch": "resnet34", "phases.head.epochs": 2}`.

    Raises:
        RecipeError: The file cannot be read, is not YAML or no mapping, extends itself, names an environment
            variable that is not set, or an override names a thing that is not there.
    """
    document = _with_base(Path(path), ())
    for name, value in (overrides or {}).items():
        set_value(document, name, value)
    document.values = _substitute(document.values, (), document)
    for location in _PATHS:
        _make_absolute(document.values, location)
    return document


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """`["a.b=1e-3"]` to `{"a.b": 0.001}`; the value is YAML.

    Raises:
        RecipeError: An assignment has no `=`, or its value is not YAML.
    """
    overrides = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise RecipeError(f"--set {assignment}: write it as NAME=VALUE, for example --set model.arch=resnet34.")
        try:
            overrides[name.strip()] = _plain(YAML(typ="rt").load(text)) if text.strip() else ""
        except YAMLError:
            raise RecipeError(f"--set {assignment}: {text!r} is not a YAML value; quote it.") from None
    return overrides


def set_value(document: Document, name: str, value: Any) -> None:
    """Set the value at a dotted name; list items go by number, or by their `name`, as in `phases.head.lr`."""
    location, node, origin = [], document.values, Place(f"--set {name}={value}")
    parts = name.split(".")
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(node, list):
            part = _item_number(node, part, name, origin)
        elif not isinstance(node, dict):
            raise RecipeError(f"{origin}: {'.'.join(parts[:i])} is a plain value and has no parts.")
        location.append(part)
        if last:
            node[part] = value
        elif isinstance(node, dict):
            node = node.setdefault(part, {})
            if node is None:
                raise RecipeError(f"{origin}: {'.'.join(parts[: i + 1])} is empty and has no parts.")
        else:
            node = node[part]
    prefix = tuple(location)
    for known in [known for known in document.places if known[: len(prefix)] == prefix]:
        del document.places[known]
    document.places[prefix] = origin


def _item_number(items: list[Any], part: str, name: str, origin: Place) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    known = ", ".join(str(known) for known in names if known) or f"0 to {len(items) - 1}"
    raise RecipeError(f"{origin}: there is no {part!r} in {name}; there are {known}.")


def _with_base(path: Path, chain: tuple[Path, ...]) -> Document:
    if path.resolve() in chain:
        raise RecipeError(f"{path}: extends itself through {chain[-1]}; remove one of the two extends lines.")
    document = _read_yaml(path)
    base_name = document.values.pop("extends", None)
    if base_name is None:
        return document
    if not isinstance(base_name, str):
        raise RecipeError(f"{document.place(('extends',))}: extends needs the path of another recipe.")
    base = _with_base(path.parent / base_name, (*chain, path.resolve()))
    merged = Document(_merge(base.values, document.values), {**base.places, **document.places})
    return merged


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merge(base.get(key), value) for key, value in over.items()}
    return over


def _read_yaml(path: Path) -> Document:
    try:
        text = path.read_bytes()
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a directory; name a recipe file such as {path}/recipe.yaml.") from None
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.yaml"))[:5] if path.parent.is_dir() else []
        hint = f" There are: {', '.join(near)}." if near else " `ablate init` writes one."
        raise RecipeError(f"{path}: no such recipe.{hint}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        tree = YAML(typ="rt").load(text)
    except (MarkedYAMLError, ReaderError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        problem = (getattr(error, "problem", None) or "not text in UTF-8").splitlines()[0]
        raise RecipeError(f"{Place(str(path), line)}: is not valid YAML: {problem}.") from None
    if tree is None:
        raise RecipeError(f"{path}: is empty; `ablate init` writes a recipe to start from.")
    if not isinstance(tree, CommentedMap):
        raise RecipeError(f"{path}:1: a recipe is a mapping (name: …, phases: …), this is {_kind(tree)}.")
    places: dict[Location, Place] = {(): Place(str(path), 1)}
    _collect_places(tree, (), str(path), places)
    return Document(_plain(tree), places)


def _kind(tree: Any) -> str:
    return "a list" if isinstance(tree, list) else f"the single value {str(tree)[:40]!r}"


def _collect_places(node: Any, location: Location, file: str, places: dict[Location, Place]) -> None:
    if isinstance(node, CommentedMap):
        for key, child in node.items():
            here = (*location, key)
            # keys that come in through a YAML merge (<<) have no line of their own
            line = node.lc.key(key)[0] if key in (node.lc.data or {}) else node.lc.line
            places[here] = Place(file, line + 1)
            _collect_places(child, here, file, places)
    elif isinstance(node, CommentedSeq):
        for i, child in enumerate(node):
            places[(*location, i)] = Place(file, node.lc.item(i)[0] + 1)
            _collect_places(child, (*location, i), file, places)


def _plain(node: Any) -> Any:
    """ruamel's annotated values to plain ones."""
    if isinstance(node, Mapping):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return None if node is None else str(node)


def _substitute(node: Any, location: Location, document: Document) -> Any:
    if isinstance(node, dict):
        return {key: _substitute(value, (*location, key), document) for key, value in node.items()}
    if isinstance(node, list):
        return [_substitute(item, (*location, i), document) for i, item in enumerate(node)]
    if not isinstance(node, str) or "${" not in node:
        return node

    def value_of(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name) or default
        if value is None:
            raise RecipeError(
                f"{document.place(location)}: the environment variable {name} is not set; "
                f"set it before the command: {name}=… ablate …, or write ${{{name}:-default}}."
            )
        return value

    text = _VARIABLE.sub(value_of, node)
    # a value that is one variable alone may be a number: epochs: ${EPOCHS:-5}
    return _plain(YAML(typ="rt").load(text)) if _VARIABLE.fullmatch(node) and not _is_path(location) else text


def _is_path(location: Location) -> bool:
    return location in _PATHS or location in (("data", "table"), ("name",))


def _make_absolute(values: dict[str, Any], location: Location) -> None:
    """Make a path independent of the current folder, so that the study's own copy of the recipe still holds."""
    node: Any = values
    for key in location[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict) and isinstance(node.get(location[-1]), str):
        node[location[-1]] = os.path.abspath(os.path.expanduser(node[location[-1]]))
