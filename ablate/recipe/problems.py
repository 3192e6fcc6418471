"""Turn what is wrong with a recipe into sentences with file, line and a suggestion."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ablate.errors import RecipeError
from ablate.recipe.load import Document, Location

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping (name: value)",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping (name: value)",
    "string_type": "text",
}
"""What a value has to be, by the type of pydantic's error."""
_LIMITS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}
_WORDS_FOR_BOOLEANS = ("on", "off", "yes", "no", "y", "n")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and which value it is about."""

    location: Location
    message: str


def raise_problems(problems: Sequence[Problem], document: Document) -> None:
    """Raise a `RecipeError` with a line for each problem, in the recipe's order; nothing without any."""
    if problems:
        ordered = sorted(problems, key=lambda problem: document.place(problem.location).line or 0)
        lines = [f"{document.place(p.location)}: {dotted(p.location, document)}{p.message}" for p in ordered]
        raise RecipeError("\n".join(dict.fromkeys(lines)))


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or what there is."""
    known = list(known)
    near = _near(word, known)
    if near:
        return f"; did you mean {near}?"
    if len(known) == 1:
        return f"; there is only {known[0]}."
    return f"; there are {', '.join(known)}." if known else "."


def _near(word: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return close[0] if close else None


def shown(value: Any) -> str:
    """A value about as it stands in the recipe, cut off where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def from_pydantic(
    error: ValidationError, schema: type[BaseModel], values: Any, prefix: Location = ()
) -> list[Problem]:
    """The problems in a pydantic error, one per value; those of a union's members are told together.

    Args:
        error: What pydantic found.
        schema: The model that was validated.
        values: The values that were, to find where each location ends.
        prefix: Where these values stand in the recipe.
    """
    told: dict[Location, list[Any]] = {}
    for detail in error.errors(include_url=False):
        location = _written(detail["loc"], values, missing=detail["type"] == "missing")
        told.setdefault(location, []).append(detail)
    meant = {(*location[:-1], near) for location, near in _misspelt(told, schema)}
    problems = []
    for location, details in told.items():
        if details[0]["type"] == "missing" and location in meant:
            continue  # it is there, but misspelt, which is told
        if any(other[: len(location)] == location for other in told if other != location):
            continue  # one member of a union says that a list is wrong, another what is wrong in the list
        problems.append(Problem((*prefix, *location), _sentence(details, location, schema)))
    return problems


def _misspelt(told: dict[Location, list[Any]], schema: type[BaseModel]) -> Iterator[tuple[Location, str]]:
    for location, details in told.items():
        if details[0]["type"] == "extra_forbidden":
            near = _near(str(location[-1]), _keys(schema, location[:-1]))
            if near:
                yield location, near


def _written(location: Sequence[str | int], values: Any, missing: bool) -> Location:
    """The part of a location that is in the recipe, without the names of a union's members."""
    kept: list[str | int] = []
    for part in location:
        if _has(values, part):
            values = values[part]
        elif missing and part == location[-1]:
            kept.append(part)
            break
        else:
            continue
        kept.append(part)
    return tuple(kept)


def _has(values: Any, part: str | int) -> bool:
    if isinstance(values, list):
        return isinstance(part, int) and part < len(values)
    return isinstance(values, dict) and part in values


def _sentence(details: Sequence[Any], location: Location, schema: type[BaseModel]) -> str:
    """One sentence about one value, from the errors of all members of its union."""
    first = details[0]
    kind, value = first["type"], first["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return f"is no setting{suggestion(str(location[-1]), _keys(schema, location[:-1]))}"
    if kind == "missing":
        return "is missing."
    if kind == "value_error":
        return f"cannot work: {first['msg'].removeprefix('Value error, ')}."
    if kind == "string_pattern_mismatch":
        return (
            f"is {shown(value)}; a name has letters, digits, '.', '_' and '-', the first a letter or digit."
        )
    # a member that got the right type and wants more of the value is the one that was meant
    meant = [detail for detail in details if not detail["type"].endswith(("_type", "_error", "from_float"))]
    wanted = list(dict.fromkeys(_wanted(detail) for detail in meant or details))
    return f"is {shown(value)}, but must be {_either(wanted)}{_hint(value, first)}."


def _either(wanted: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`; with one more comma where a part has some itself."""
    *rest, last = wanted
    return (", ".join(rest) + (", or " if "," in "".join(wanted) else " or ") if rest else "") + last


def _wanted(detail: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context).removesuffix(".0")
    if kind == "literal_error":
        return context["expected"].replace("'", "")
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = context["min_length" if least else "max_length"]
        return f"a list of {'at least' if least else 'at most'} {count} {'item' if count == 1 else 'items'}"
    if kind == "string_too_short":
        return "some text"
    return detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _hint(value: Any, detail: Any) -> str:
    if detail["type"] == "bool_type" and isinstance(value, str) and value.lower() in _WORDS_FOR_BOOLEANS:
        return " (in YAML 1.2 on, off, yes and no are text)"
    if value is None and detail["type"] in ("dict_type", "model_type"):
        return "; write {} to leave everything as it is"
    return ""


def _keys(schema: Any, location: Location) -> list[str]:
    """The keys that are valid at a location of a schema."""
    models = _models(schema)
    if not location:
        return [name for model in models for name in model.model_fields]
    head, rest = location[0], location[1:]
    if isinstance(head, int):
        return [key for model in models for key in _keys(model, rest)] if models else []
    found = [model.model_fields[head].annotation for model in models if head in model.model_fields]
    found += [extra for model in models if head not in model.model_fields and (extra := _extra(model))]
    return [key for annotation in found for key in _keys(annotation, rest)]


def _extra(model: type[BaseModel]) -> Any:
    """The type of the values under keys that a model leaves free, such as the names of phases."""
    if model.model_config.get("extra") != "allow":
        return None
    return typing.get_type_hints(model).get("__pydantic_extra__")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def dotted(location: Location, document: Document) -> str:
    """A location for people, with phases by name: `phases.head.lr `."""
    parts: list[str] = []
    node: Any = document.values
    for part in location:
        child = node[part] if _has(node, part) else None
        # a phase goes by its name, in `--set` too; other lists by number
        name = child.get("name") if location[0] == "phases" and isinstance(child, dict) else None
        parts.append(name if isinstance(name, str) else str(part))
        node = child
    return ".".join(parts) + " " if parts else ""
