"""Read a recipe from YAML: `extends`, environment variables and overrides, with the place of every value.

YAML is 1.2 (ruamel.yaml), so `1e-3` is a number and `on` is a string.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from ablate.errors import Place, RecipeError

Location = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PATHS: tuple[Location, ...] = (("data", "root"), ("data", "shards"), ("model", "weights"))


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
            raise RecipeError(
                f"--set {assignment}: write it as NAME=VALUE, for example --set model.arch=resnet34."
            )
        try:
            overrides[name.strip()] = _plain(YAML(typ="rt").load(text)) if text.strip() else ""
        except (YAMLError, ValueError, RecursionError):
            raise RecipeError(
                f"--set {assignment}: {text!r} is not a YAML value; text with brackets or colons needs "
                f"quotes, as in --set {name.strip()}='\"…\"'."
            ) from None
    return overrides


def set_value(document: Document, name: str, value: Any, origin: Place | None = None) -> None:
    """Set the value at a dotted name; list items go by number, or by their `name`, as in `phases.head.lr`.

    Args:
        document: The recipe, changed in place down to its own mapping of values; what that contains is copied
            where it changes.
        name: The dotted name.
        value: The new value.
        origin: Where the value comes from, for later errors; default: `--set`.

    Raises:
        RecipeError: The name leads nowhere.
    """
    location: list[str | int] = []
    node: Any = document.values
    origin = origin or Place(f"--set {name}={value}")
    parts = name.split(".")
    if not all(parts):
        raise RecipeError(f"{origin}: {name!r} is no name; write it like model.arch or phases.head.lr.")
    for i, part in enumerate(parts):
        if not isinstance(node, dict | list):
            raise RecipeError(f"{origin}: {'.'.join(parts[:i])} is a single value, so there is no {name}.")
        here: Any = _item_number(node, part, name, origin) if isinstance(node, list) else part
        location.append(here)
        if i == len(parts) - 1:
            node[here] = value
        else:
            if isinstance(node, dict) and node.get(here) is None:
                node[here] = {}
                document.places[tuple(location)] = origin
            # values may be shared with another recipe: what is changed is copied, what is around it is not
            node[here] = copy.copy(node[here])
            node = node[here]
    prefix = tuple(location)
    for known in [known for known in document.places if known[: len(prefix)] == prefix]:
        del document.places[known]
    document.places[prefix] = origin


def _item_number(items: list[Any], part: str, name: str, origin: Place) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    whole = name.split(f".{part}")[0]
    known = ", ".join(str(known) for known in names if known) or (
        f"0 to {len(items) - 1}" if items else "no items"
    )
    raise RecipeError(f"{origin}: {whole} has no {part!r}; it has {known}.")


def _with_base(path: Path, chain: tuple[Path, ...]) -> Document:
    document = _read_yaml(path)
    if "extends" not in document.values:
        return document
    place = document.place(("extends",))
    base_name = _substitute(document.values.pop("extends"), ("extends",), document)
    if not isinstance(base_name, str) or not base_name:
        raise RecipeError(f"{place}: extends needs the path of one other recipe.")
    base_path, chain = path.parent / os.path.expanduser(base_name), (*chain, path.resolve())
    if base_path.resolve() in chain:
        back = ", which leads back here" if len(chain) > 1 else ", itself"
        raise RecipeError(f"{place}: extends {base_name}{back}; remove this line, or name another recipe.")
    if not base_path.exists():
        raise RecipeError(f"{place}: extends {base_name}, but there is no file {base_path}.")
    base = _with_base(base_path, chain)
    return Document(_merge(base.values, document.values), _merged_places(base, document))


def _merged_places(base: Document, over: Document) -> dict[Location, Place]:
    """The places of a merged recipe; what is replaced as a whole, such as a list, leaves none in the base."""
    replaced = {
        location for location in over.places if not isinstance(_value_at(over.values, location), dict)
    }
    kept = {
        location: place
        for location, place in base.places.items()
        if not any(location[:end] in replaced for end in range(1, len(location) + 1))
    }
    return kept | over.places


def _value_at(node: Any, location: Location) -> Any:
    for part in location:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):  # such as extends, which has been taken out
            return None
    return node


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
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise RecipeError(
            f"{Place(str(path), line)}: this is not valid YAML: {_yaml_problem(error)}."
        ) from None
    except RecursionError:
        raise RecipeError(f"{path}: this is nested too deeply for a recipe.") from None
    if tree is None:
        raise RecipeError(f"{path}: is empty; `ablate init` writes a recipe to start from.")
    if not isinstance(tree, CommentedMap):
        raise RecipeError(f"{path}:1: a recipe is a mapping (name: …, phases: …), but this is {_kind(tree)}.")
    places: dict[Location, Place] = {(): Place(str(path), 1)}
    try:
        _collect_places(tree, (), str(path), places)
        return Document(_plain(tree), places)
    except RecursionError:
        raise RecipeError(f"{path}: an alias (*name) stands inside its own anchor (&name).") from None


def _yaml_problem(error: Exception) -> str:
    """What a parser found, in a few words."""
    problem = (getattr(error, "problem", None) or "").split("\\n")[0]
    if not problem:
        unreadable = isinstance(error, ReaderError | UnicodeDecodeError)
        return "it is not text in UTF-8" if unreadable else "a value does not fit its !!tag"
    if "'\\t'" in problem:
        return "a line starts with a tab; indent with spaces"
    return problem.removeprefix("but ").replace("'<stream end>'", "the end of the file")


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
            # nor do the items of a sequence with a tag of its own
            line = node.lc.item(i)[0] if node.lc.data else node.lc.line or 0
            places[(*location, i)] = Place(file, line + 1)
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
                f"{document.place(location)}: the environment variable {name} is not set; set it, as in "
                f"`export {name}=…`, or give it a default here: ${{{name}:-…}}."
            )
        return value

    text = _VARIABLE.sub(value_of, node)
    return _typed(text) if _VARIABLE.fullmatch(node) and not _is_path(location) else text


def _typed(text: str) -> Any:
    """The value of a variable that stands alone: `epochs: ${EPOCHS:-5}` is a number."""
    try:
        value = _plain(YAML(typ="rt").load(text))
    except (YAMLError, ValueError):
        return text
    return text if value is None or isinstance(value, dict) else value


def _is_path(location: Location) -> bool:
    return location in _PATHS or location in (("data", "table"), ("name",))


def _make_absolute(values: dict[str, Any], location: Location) -> None:
    """Make a path independent of the current folder, so that the study's copy of the recipe still holds."""
    node: Any = values
    for key in location[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict) or (location == ("data", "shards") and node.get("root")):
        return
    given = node.get(location[-1])
    if isinstance(given, str):
        node[location[-1]] = _absolute(given)
    elif isinstance(given, list):
        node[location[-1]] = [_absolute(one) if isinstance(one, str) else one for one in given]


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))
