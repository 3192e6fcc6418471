"""Small questions to the service, and what is said where it does not answer as it should."""

import json
import re

import pytest
from loopback import Fault, Loopback
from wandb_backend import HISTORY, Run

from ablate.errors import AblateError
from ablate.tracking import service
from ablate.tracking.service import Account, Problem, Service, as_problem


def ask(backend: Loopback, key: str | None = "0123456789" * 4) -> Service:
    return Service(Account(backend.url, key, "ablate", None))


def test_it_tells_whose_account_it_is(backend: Loopback) -> None:
    entity, seconds = ask(backend).viewer()
    assert entity == "local"
    assert 0 < seconds < 5


def test_a_run_that_is_not_there_has_no_rows(backend: Loopback) -> None:
    assert ask(backend).lines("local", "ablate", "none") == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("status", status=502), "the error 502"),
        (Fault("html"), "nonsense.*WANDB_BASE_URL"),
        (Fault("json"), "nonsense"),
        (Fault("hang"), "does not answer.*WANDB_BASE_URL"),
        (Fault("cut"), "cannot be reached"),
    ],
    ids=str,
)
def test_faults_are_told_and_may_pass(
    fault: Fault, words: str, backend: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TIMEOUT", 0.5)
    backend.fault = fault
    with pytest.raises(Problem) as raised:
        ask(backend).viewer()
    assert re.search(words, str(raised.value))
    assert backend.url in str(raised.value)
    assert not raised.value.lasting


def test_a_wrong_key_stays_wrong(backend: Loopback) -> None:
    with pytest.raises(Problem, match=r"does not accept the API key; .*wandb login") as raised:
        ask(backend, "f" * 40).viewer()
    assert raised.value.lasting


def test_errors_of_the_client_become_clauses() -> None:
    same = Problem("x")
    assert as_problem(same) is same
    assert as_problem(AblateError("a/b: cannot be written.")).lasting
    denied = as_problem(RuntimeError("HTTP 403: permission denied"))
    assert denied.lasting
    assert "WANDB_PROJECT" in str(denied)
    other = as_problem(RuntimeError("two\nlines."))
    assert not other.lasting
    assert str(other) == "its client stopped with: two lines"


def history(backend: Loopback, steps: list[int]) -> None:
    run = backend.runs["one"] = Run("one", "local", "ablate")
    lines = [json.dumps({"_step": step, "loss": 0.5}) for step in steps]
    for place, line in enumerate(lines):
        run.stream({"files": {HISTORY: {"offset": max(steps[place], place), "content": [line]}}})


def test_rows_count_up_to_the_first_that_is_lacking_or_there_twice(
    backend: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_ROWS", 4)
    whole = list(range(10))
    for steps, count in (
        (whole, 10),
        (whole[:8], 8),
        ([0, 1, 2, 3, 4, 7, 8], 5),
        ([0, 1, 1, 2], 2),
        ([1], 0),
    ):
        history(backend, steps)
        assert ask(backend).unbroken("local", "ablate", "one") == count
    assert ask(backend).lines("local", "ablate", "one") == 2  # of a run that lacks its first row
    assert ask(backend).unbroken("local", "ablate", "none") == 0


def test_a_run_is_deleted_if_it_is_there(backend: Loopback) -> None:
    history(backend, [0])
    ask(backend).delete("local", "ablate", "one")
    assert backend.runs == {}
    ask(backend).delete("local", "ablate", "one")
    assert backend.deleted == {"one"}


def test_a_run_that_may_not_be_deleted_is_named(backend: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    history(backend, [0])
    monkeypatch.setattr(backend, "_delete", lambda asked: {"deleteRun": None})
    with pytest.raises(Problem, match=r"run one of ablate.*delete it there") as raised:
        ask(backend).delete("local", "ablate", "one")
    assert raised.value.lasting
