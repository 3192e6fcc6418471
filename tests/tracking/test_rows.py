"""A trial's history: a row per step, counted through all phases, from the local log as far as it goes."""

import math
import time
from pathlib import Path

import pytest

from ablate.study.local_log import LocalLog
from ablate.tracking.rows import Histories, epoch_rows


def epoch(number: int, steps: int, first: int = 0, **row: float) -> dict:
    columns = ("loss", "lr", "lr_body", "mom")
    return {
        "epoch": {"phase": "head", "epoch": number, **row},
        "steps": {"step": [*range(first, first + steps)]}
        | {name: [10.0 * i + first + s for s in range(steps)] for i, name in enumerate(columns)},
    }


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    return LocalLog(tmp_path)


def finish(tmp_path: Path, key: str, status: str = "ok") -> None:
    with (tmp_path / "history" / f"{key}.jsonl").open("a") as file:
        file.write(f'{{"finished": {{"status": "{status}", "seconds": 1.0}}}}\n')


def test_the_last_step_of_an_epoch_has_what_the_epoch_came_to() -> None:
    rows = epoch_rows(epoch(0, 2, valid_loss=0.5, seconds=3.0), passed=4)
    assert rows == [
        {"loss": 0.0, "lr": 10.0, "lr_body": 20.0, "mom": 30.0},
        {"loss": 1.0, "lr": 11.0, "lr_body": 21.0, "mom": 31.0}
        | {"phase": "head", "valid_loss": 0.5, "epoch": 4, "epoch_seconds": 3.0},
    ]


def test_steps_and_epochs_count_through_all_phases(log: LocalLog, tmp_path: Path) -> None:
    log.append("a", epoch(0, 3))
    log.append("a", epoch(1, 3, first=3))
    finish(tmp_path, "a")
    log.append("b", epoch(0, 2))
    rows = Histories(tmp_path).of(["a", "b"])
    assert len(rows) == 8
    assert [row["epoch"] for row in rows if "epoch" in row] == [1, 2, 3]


def test_a_phase_counts_only_once_the_one_before_is_finished(log: LocalLog, tmp_path: Path) -> None:
    log.append("a", epoch(0, 3))
    log.append("b", epoch(0, 2))
    assert len(Histories(tmp_path).of(["a", "b"])) == 3
    assert Histories(tmp_path).of(["c"]) == []


def test_nothing_follows_a_phase_that_diverged(log: LocalLog, tmp_path: Path) -> None:
    lost = epoch(0, 1)
    lost["steps"]["loss"] = [math.nan]
    log.append("a", lost)
    finish(tmp_path, "a", "diverged")
    log.append("b", epoch(0, 2))
    rows = Histories(tmp_path).of(["a", "b"])
    assert len(rows) == 1
    assert math.isnan(rows[0]["loss"])


def test_what_is_added_is_seen_and_what_stays_is_not_read_again(
    log: LocalLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append("a", epoch(0, 3))
    histories = Histories(tmp_path)
    before = histories.stamp(["a"])
    assert len(histories.of(["a"])) == 3
    read, times = LocalLog.read, []
    monkeypatch.setattr(LocalLog, "read", lambda self, key: times.append(key) or read(self, key))
    assert len(histories.of(["a"])) == 3
    assert times == []
    time.sleep(0.01)
    log.append("a", epoch(1, 2, first=3))
    assert histories.stamp(["a"]) != before
    assert len(histories.of(["a"])) == 5
    assert times == ["a"]


def test_samples_are_given_where_there_are_some(log: LocalLog, tmp_path: Path) -> None:
    log.append("a", epoch(0, 1))
    assert Histories(tmp_path).samples("a") is None
    (tmp_path / "history" / "a.jpg").write_bytes(b"")
    assert Histories(tmp_path).samples("a") == tmp_path / "history" / "a.jpg"
