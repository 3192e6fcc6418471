"""ablate.errors: the errors that a person is meant to read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner

from ablate.cli import main
from ablate.errors import AblateError, Damaged, Place, RecipeError, StageFailed, StageStopped, Terminated


def test_places() -> None:
    assert str(Place("r.yaml", 3)) == "r.yaml:3"
    assert str(Place("--set a=1")) == "--set a=1"


@pytest.mark.parametrize("kind", [RecipeError, StageFailed, StageStopped, Damaged])
def test_the_command_line_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, AblateError)


def test_a_damaged_folder_is_named_with_what_to_do() -> None:
    error = Damaged(Path("store/abc"))
    assert error.folder == Path("store/abc")
    assert str(error).startswith("store/abc: is damaged; `ablate run` sets it aside and computes it again")


def test_a_sentence_stays_as_it_is_on_its_way_through_fastai() -> None:
    from fastai.callback.core import Callback

    class Complains(Callback):
        def before_fit(self) -> None:
            raise AblateError("monitor: there is none.")

    complains = Complains()
    with pytest.raises(AblateError) as raised:
        complains("before_fit")
    assert str(raised.value) == "monitor: there is none."
    assert str(pickle.loads(pickle.dumps(raised.value))) == "monitor: there is none."


def test_nothing_that_catches_exceptions_holds_a_termination_up() -> None:
    """fastai and many another library catch `Exception` in places."""
    assert not issubclass(Terminated, Exception)


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["plan", "nix.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("nix.yaml: no such recipe.")
    assert result.stderr.count("\n") == 1
