"""ablate.recipe.json_schema: editors accept what `ablate` accepts, and mark what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from ablate import techniques
from ablate.cli import main
from ablate.recipe.json_schema import recipe_schema

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
PHASES = [{"name": "one", "epochs": 1}]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship(validator: Draft202012Validator, path: Path) -> None:
    values = YAML(typ="safe").load(path.read_text())
    assert [error.message for error in validator.iter_errors(values)] == []


@pytest.mark.parametrize(
    "more",
    [
        {"batch_size": "${BATCH:-64}", "data": {"root": "${DATA}/x", "split": {"folds": "${FOLDS}"}}},
        {"phases": [{"name": "one", "epochs": "${EPOCHS}", "lr": "find", "freeze": "${FREEZE:-true}"}]},
        {"techniques": {"progressive_resizing": {"one": 32, "two": {"size": 64, "presize": 80}}}},
        {"techniques": {"mixup": {"further": {"epochs": 5}}}},
        {
            "study": {
                "vary": [
                    "mixup",
                    {"mixup": ["off", {"alpha": 1}]},
                    {"phases.one.lr": [1, 2]},
                    {"size": [1, 2]},
                ]
            }
        },
        {"study": {"design": "fractional", "vary": ["mixup"], "fraction": {"resolution": 5}}},
        {"study": {"design": "fractional", "vary": ["mixup"], "fraction": {"variants": "${BUDGET}"}}},
        {"study": {"design": [["mixup"], {"off": ["tta"], "set": {"model.arch": "a"}}], "seeds": [1, 2]}},
    ],
)
def test_right(validator: Draft202012Validator, more: dict[str, Any]) -> None:
    assert [error.message for error in validator.iter_errors({"name": "a", "phases": PHASES} | more)] == []


@pytest.mark.parametrize(
    "values",
    [
        {"sise": 3},
        {"batch_size": "big"},
        {"batch_size": "$BATCH"},
        {"phases": [{"name": "one", "epoch": 1}]},
        {"phases": []},
        {"techniques": {"mixp": {}}},
        {"techniques": {"mixup": {"alpa": 1}}},
        {"techniques": {"mixup": {"alpha": -1}}},
        {"techniques": {"progressive_resizing": {"one": {"siz": 1}}}},
        {"study": {"baseline": ["mixp"]}},
        {"study": {"vary": ["mixp"]}},
        {"study": {"vary": [{"data.root": ["a", "b"]}]}},
        {"study": {"vary": [{"mixup": ["off", {"alpa": 1}]}]}},
        {"study": {"design": "oat"}},
        {"study": {"design": [["mixp"]]}},
        {"study": {"design": "fractional", "fraction": {"resolution": 2}}},
        {"study": {"design": "fractional", "fraction": {"runs": 8}}},
        {"study": {"metric": "acuracy"}},
    ],
)
def test_wrong(validator: Draft202012Validator, values: dict[str, Any]) -> None:
    assert not validator.is_valid({"name": "a", "phases": PHASES} | values)


def test_what_has_to_be_there(validator: Draft202012Validator) -> None:
    assert not validator.is_valid({"name": "a"})
    assert validator.is_valid({"extends": "base.yaml"})
    assert not validator.is_valid({"extends": ["base.yaml"]})


def test_options_are_completed_and_told() -> None:
    schema = recipe_schema()
    assert list(schema["properties"]["techniques"]["properties"]) == list(techniques.registry())
    alpha = schema["$defs"]["MixUp"]["properties"]["alpha"]
    assert alpha["description"]
    assert alpha["default"] == 0.4


def test_the_command_prints_it(write: Callable[..., Path]) -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert json.loads(result.stdout) == json.loads(json.dumps(recipe_schema()))
