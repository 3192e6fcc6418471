"""ablate.errors: the errors that a person is meant to read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ablate.cli import main
from ablate.errors import AblateError, Place, RecipeError, StageFailed


def test_places() -> None:
    assert str(Place("r.yaml", 3)) == "r.yaml:3"
    assert str(Place("--set a=1")) == "--set a=1"


@pytest.mark.parametrize("kind", [RecipeError, StageFailed])
def test_the_command_line_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, AblateError)


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["plan", "nix.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("nix.yaml: no such recipe.")
    assert result.stderr.count("\n") == 1
