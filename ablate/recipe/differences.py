"""What differs between two recipes, a line for each field."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from ablate import techniques
from ablate.errors import AblateError
from ablate.recipe.schema import RecipeFields

_LONGEST = 60
_BARE = re.compile(r"(?!(?:true|false|null)$)[A-Za-z_/][\w./+-]*")


def complete(*recipes: dict[str, Any]) -> list[dict[str, Any]]:
    """Recipes with every default filled in; as they are where one no longer stands under this ablate."""
    try:
        checked = [RecipeFields.model_validate(values) for values in recipes]
        named = list(dict.fromkeys(name for recipe in checked for name in recipe.techniques))
        return [_filled(recipe, named) for recipe in checked]
    except (ValidationError, AblateError):
        return list(recipes)


def _filled(recipe: RecipeFields, named: Iterable[str]) -> dict[str, Any]:
    filled = recipe.model_dump(mode="json")
    filled["data"]["source"] = recipe.data.kind
    for section, key in (("data", "root"), ("model", "weights")):
        path = filled[section][key]
        if path and "://" not in path:  # a recipe that is loaded from a file has them absolute
            filled[section][key] = os.path.abspath(os.path.expanduser(path))
    for name in named:
        if name in techniques.known(recipe.technique_sources):
            technique = techniques.build(name, recipe.techniques.get(name), recipe.technique_sources)
            # a phase among the options takes what it leaves out from elsewhere, not from its own defaults
            given = technique.model_dump(mode="json", exclude_unset=True)
            filled["techniques"][name] = technique.model_dump(mode="json") | given
    return filled


def differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """A line for each value that differs, by dotted name, in the order of the newer side.

    Args:
        then: Plain values: mappings, lists and what stands in them. Lists of mappings with names go by name.
        now: Likewise.
        name: The dotted name of both.
    """
    named_then, named_now = _by_name(then), _by_name(now)
    if named_then and named_now:
        then, now = named_then, named_now
        orders = [key for key in then if key in now], [key for key in now if key in then]
        if orders[0] != orders[1]:
            yield _line(name, *orders)
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in then if key not in now)]:
            yield from differences(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif then != now:
        yield _line(name, then, now)


def _by_name(items: Any) -> dict[str, Any] | None:
    """A list of mappings with names as a mapping; None if it is no such list."""
    if not isinstance(items, list):
        return None
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return {item["name"]: {key: item[key] for key in item if key != "name"} for item in items}


def _line(name: str, then: Any, now: Any) -> str:
    if then is None and isinstance(now, dict):
        return f"{name}: added, {_cut(_text(now))}"
    if now is None and isinstance(then, dict):
        return f"{name}: removed, it was {_cut(_text(then))}"
    texts = ["not set" if value is None else _text(value) for value in (then, now)]
    # of two long values, the part is shown in which they differ
    common = next((i for i, (one, other) in enumerate(zip(*texts)) if one != other), min(map(len, texts)))
    start = max(0, common - 15) if max(map(len, texts)) > _LONGEST else 0
    return f"{name}: {_cut(texts[0], start)} → {_cut(texts[1], start)}"


def _cut(text: str, start: int = 0) -> str:
    part = ("…" if start else "") + text[start:]
    return part if len(part) <= _LONGEST else part[: _LONGEST - 1] + "…"


def _text(value: Any) -> str:
    """A value about as it stands in a recipe, on one line; what is not set in a mapping is left out."""
    if isinstance(value, dict):
        items = (f"{key}: {_text(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float) or (isinstance(value, str) and _BARE.fullmatch(value)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
