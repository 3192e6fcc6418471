"""Turn what is wrong with a recipe into sentences with file, line and a suggestion."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ablate.errors import RecipeError
from ablate.recipe.load import Document, Location


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and which value it is about."""

    location: Location
    message: str


def raise_problems(problems: Sequence[Problem], document: Document) -> None:
    """Raise a `RecipeError` with a line for each problem; nothing if there are none."""
    if problems:
        lines = [f"{document.place(p.location)}: {_dotted(p.location)}{p.message}" for p in problems]
        raise RecipeError("\n".join(dict.fromkeys(lines)))


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or what there is."""
    known = list(known)
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(known)}." if known else "."


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
    told: dict[Location, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = _written(detail["loc"], values, missing=detail["type"] == "missing")
        told.setdefault(location, []).append(_sentence(detail, location, schema))
    return [Problem((*prefix, *location), _joined(messages)) for location, messages in told.items()]


def _written(location: Sequence[str | int], values: Any, missing: bool) -> Location:
    """The part of a location that is in the recipe, without the names of a union's members."""
    kept: list[str | int] = []
    for part in location:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif missing and part == location[-1]:
            kept.append(part)
            break
        else:
            continue
        kept.append(part)
    return tuple(kept)


def _sentence(detail: Any, location: Location, schema: type[BaseModel]) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return f"is no setting{suggestion(str(location[-1]), _keys(schema, location[:-1]))}"
    if kind == "missing":
        return "is missing."
    if kind == "value_error":
        return f"{message.removeprefix('Value error, ')}."
    if kind == "string_pattern_mismatch":
        return f"{detail['input']!r} is not a name: letters, digits, '.', '_' and '-', starting with one of the first."
    return f"{_shown(detail['input'])}: {message[0].lower()}{message[1:]}"


def _joined(messages: list[str]) -> str:
    """One sentence from the errors of all members of a union."""
    if len(messages) == 1:
        return messages[0] if messages[0].endswith((".", "?")) else messages[0] + "."
    start, phrase = messages[0].split(": ")[0], "input should be "
    wanted = dict.fromkeys(m.split(": ", 1)[-1].removeprefix(phrase).removesuffix(".") for m in messages)
    return f"{start}: should be {', or '.join(wanted)}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _keys(schema: Any, location: Location) -> list[str]:
    """The keys that are valid at a location of a schema."""
    models = _models(schema)
    if not location:
        return [name for model in models for name in model.model_fields]
    head, rest = location[0], location[1:]
    if isinstance(head, int):
        return [key for model in models for key in _keys(model, rest)] if models else []
    found = [model.model_fields[head].annotation for model in models if head in model.model_fields]
    return [key for annotation in found for key in _keys(annotation, rest)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location) + " " if location else ""
