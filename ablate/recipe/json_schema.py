"""JSON Schema of recipes, so that editors complete and check them while they are written."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ablate import techniques
from ablate.analysis.names import PATTERN, known_metrics
from ablate.recipe.schema import RecipeFields
from ablate.recipe.study_checks import NOT_VARIED

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}$"}
_PLAIN_TYPES = ("integer", "number", "boolean")


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe file, JSON Schema 2020-12.

    It knows the options of every technique that is installed, and their names where a study names techniques.
    Rules that need more than one field are not in it; `ablate plan` checks those.
    """
    known = techniques.registry()
    models: list[type[BaseModel]] = [RecipeFields, *known.values()]
    references, shared = models_json_schema([(model, "validation") for model in models])
    definitions = shared["$defs"]
    options = {name: references[technique, "validation"] for name, technique in known.items()}
    recipe = definitions.pop(references[RecipeFields, "validation"]["$ref"].rsplit("/", 1)[-1])
    recipe["properties"]["techniques"] |= {"properties": options, "additionalProperties": False}
    _name_techniques(definitions, options)
    recipe["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe, relative to this one: what is not set here comes from there.",
    }
    recipe["anyOf"] = [{"required": recipe.pop("required")}, {"required": ["extends"]}]
    for model in [recipe, *definitions.values()]:
        model["properties"] = {
            name: _or_variable(value) for name, value in model.get("properties", {}).items()
        }
    return {"$schema": _DIALECT, **recipe, "title": "A recipe of ablate", "$defs": definitions}


def _name_techniques(definitions: dict[str, Any], options: dict[str, Any]) -> None:
    """Tell which techniques, fields and metrics a study can name."""
    one = {"enum": list(options)}
    some = {"type": "array", "items": one}
    level = {"enum": ["off", "on"]}
    factors = {
        name: {"type": "array", "minItems": 2, "items": {"anyOf": [level, own]}}
        for name, own in options.items()
    }
    fields = "|".join(name for name in RecipeFields.model_fields if name not in NOT_VARIED)
    levels = {
        "type": "object",
        "properties": factors,
        "patternProperties": {rf"^({fields})(\..+)?$": {"type": "array", "minItems": 2}},
        "additionalProperties": False,
    }
    study, variation = definitions["Study"]["properties"], definitions["Variation"]["properties"]
    study["baseline"]["items"] = one
    study["vary"]["items"] = {"anyOf": [one, levels]}
    study["metric"] |= {"pattern": PATTERN, "examples": known_metrics()}
    for choice in study["design"]["anyOf"]:
        if choice.get("type") == "array":
            choice["items"] = {"anyOf": [some, {"$ref": "#/$defs/Variation"}]}
    variation["on"]["items"] = variation["off"]["items"] = one


def _or_variable(value: dict[str, Any]) -> dict[str, Any]:
    """A field's schema that lets an environment variable stand for a number or a truth value."""
    choices = value.get("anyOf", [value])
    if not any(choice.get("type") in _PLAIN_TYPES for choice in choices):
        return value
    about: dict[str, Any] = {key: value[key] for key in ("default", "description", "title") if key in value}
    own = value["anyOf"] if "anyOf" in value else [{k: v for k, v in value.items() if k not in about}]
    return {**about, "anyOf": [*own, _VARIABLE]}
