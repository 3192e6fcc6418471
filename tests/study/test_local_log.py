"""The local log against what stages report and write, and torn files of every kind."""

from __future__ import annotations

import io
import json
import math
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stages import Runner, tiny_recipe

from ablate import sealed
from ablate.errors import AblateError, Damaged
from ablate.study.local_log import LocalLog, Logged

NUMBERS = st.floats() | st.integers(0, 9)
TABLES = st.lists(st.tuples(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=3)), min_size=1, max_size=4)
"""A value and the losses of the steps of each epoch."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def messages(table: list[tuple[float, list[float]]]) -> list[dict[str, Any]]:
    return [
        {"epoch": {"phase": "bödy", "epoch": number, "loss": value}, "steps": {"loss": losses}}
        for number, (value, losses) in enumerate(table)
    ]


def seen(value: float) -> float | str:
    """What can be compared of a number of the log."""
    return value if math.isfinite(value) else "not finite"


def epochs(logged: Logged) -> list[Any]:
    return [
        (one["epoch"]["epoch"], seen(one["epoch"]["loss"]), list(map(seen, one["steps"]["loss"])))
        for one in logged.epochs
    ]


def expected(table: list[tuple[float, list[float]]]) -> list[Any]:
    return [(number, seen(value), list(map(seen, losses))) for number, (value, losses) in enumerate(table)]


@given(table=TABLES, data=st.data())
def test_any_prefix_of_a_log_is_a_prefix_of_its_epochs_and_goes_on(table: Any, data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        log, path = LocalLog(Path(folder)), Path(folder) / "history" / "one.jsonl"
        ends = []
        for message in messages(table):
            log.append("one", message)
            ends.append(path.stat().st_size)
        assert epochs(log.read("one")) == expected(table)
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        left = sum(end - 1 <= cut for end in ends)  # a line without its newline is whole
        assert epochs(log.read("one")) == expected(table)[:left]
        for message in messages(table)[left:]:
            log.append("one", message)
        assert epochs(log.read("one")) == expected(table)
        assert log.read("one").finished is None


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_lines_are_json_that_others_read_and_numbers_that_are_not_finite_come_back_as_nan(tmp_path: Path):
    log = LocalLog(tmp_path)
    log.append("one", messages([(math.inf, [0.1, math.nan, -math.inf])])[0])
    (line,) = (tmp_path / "history" / "one.jsonl").read_text().splitlines()
    content = json.loads(line, parse_constant=refused)
    assert content == {
        "epoch": {"phase": "bödy", "epoch": 0, "loss": None},
        "steps": {"loss": [0.1, None, None]},
    }
    (epoch,) = log.read("one").epochs
    assert math.isnan(epoch["epoch"]["loss"])
    np.testing.assert_array_equal(epoch["steps"]["loss"], [0.1, math.nan, math.nan])


def test_the_last_line_of_an_epoch_counts(tmp_path: Path):
    log = LocalLog(tmp_path)
    assert log.read("one") == Logged([], None)
    first, second = messages([(1.0, [1.0]), (2.0, [2.0])])
    again = messages([(3.0, [3.0])])[0]
    for message in (first, second, again):
        log.append("one", message)
    assert log.read("one") == Logged([again, second], None)


@pytest.fixture
def made(photos: Path, tmp_path: Path) -> Runner:
    return Runner(tiny_recipe(photos, phases=[{"name": "a", "epochs": 2, "lr": 1e-3}]), tmp_path / "stages")


def without_times(logged: Logged) -> list[Any]:
    return [
        {**one, "epoch": {k: v for k, v in one["epoch"].items() if k != "seconds"}} for one in logged.epochs
    ]


def test_what_was_appended_is_what_is_completed_from_the_stage(made: Runner, tmp_path: Path):
    live, log, stage = LocalLog(tmp_path / "live"), LocalLog(tmp_path / "study"), made.fit()

    def report(message: dict[str, Any]) -> None:
        if "epoch" in message:
            live.append(stage.key, message)

    folder = made.run(stage, report)
    log.complete(stage.key, folder)
    appended, completed = live.read(stage.key), log.read(stage.key)
    assert appended.finished is None
    assert appended.epochs == completed.epochs
    files = [one.folder / f"{stage.key}.jsonl" for one in (live, log)]
    assert files[1].read_text().startswith(files[0].read_text())  # the same to the last digit

    history, steps = (pd.read_csv(folder / name) for name in ("history.csv", "steps.csv"))
    rows = pd.DataFrame([one["epoch"] for one in completed.epochs])
    pd.testing.assert_frame_equal(rows, history, rtol=1e-12)
    columns = pd.concat([pd.DataFrame(one["steps"]) for one in completed.epochs], ignore_index=True)
    pd.testing.assert_frame_equal(columns, steps.drop(columns="epoch"), rtol=1e-12)
    assert [len(one["steps"]["step"]) for one in completed.epochs] == [3, 3]
    assert columns["step"].tolist() == list(range(6))

    seal = sealed.read_seal(folder)
    assert seal is not None
    assert completed.finished == {"status": "ok", "seconds": seal["seconds"]}
    assert (log.folder / f"{stage.key}.jpg").read_bytes() == (folder / "samples.jpg").read_bytes()
    assert Image.open(io.BytesIO((folder / "samples.jpg").read_bytes())).format == "JPEG"


def test_a_whole_log_is_left_and_any_other_is_written_anew(made: Runner, tmp_path: Path):
    log, stage = LocalLog(tmp_path), made.fit()
    folder = made.run(stage)
    path = log.folder / f"{stage.key}.jsonl"
    log.complete(stage.key, folder)
    whole, written = log.read(stage.key), path.stat()
    log.complete(stage.key, folder)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    content = path.read_bytes()
    for other in (b"", content[:-3], content + content[:50], content + content.splitlines(True)[0]):
        path.write_bytes(other)
        log.complete(stage.key, folder)
        assert path.read_bytes() == content
    # trained again, after damage: not finished until it is
    log.append(stage.key, whole.epochs[0])
    assert log.read(stage.key) == Logged(whole.epochs, None)
    assert not list(log.folder.glob(".*"))


def test_an_interrupted_stage_reports_the_same_epochs(made: Runner, tmp_path: Path):
    logs = LocalLog(tmp_path / "whole"), LocalLog(tmp_path / "parts")
    stage = made.fit()
    parts = Runner(made.recipe, tmp_path / "parts of it")
    made.run(stage, lambda message: logs[0].append("k", message) if "epoch" in message else None)
    told = []

    def lose_power(message: dict[str, Any]) -> None:
        if "epoch" in message:
            logs[1].append("k", message)
            told.append(message["epoch"]["epoch"])
            if told in ([0], [0, 0, 1]):  # before the checkpoint of the first, before the end of the second
                raise RuntimeError("the lights went out")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="lights"):
            parts.run(stage, lose_power)
    parts.run(stage, lose_power)
    assert told == [0, 0, 1, 1]
    one, other = (log.read("k") for log in logs)
    assert without_times(one) == without_times(other)


def test_the_epoch_in_which_a_stage_diverged_has_its_steps(photos: Path, tmp_path: Path):
    phases = [{"name": "a", "epochs": 3, "lr": 1e25}]
    made, log = Runner(tiny_recipe(photos, phases=phases), tmp_path / "stages"), LocalLog(tmp_path)
    stage = made.fit()
    folder = made.run(stage)
    log.complete(stage.key, folder)
    logged = log.read(stage.key)
    assert logged.finished is not None
    assert logged.finished["status"] == "diverged"
    last = logged.epochs[-1]
    assert last["epoch"] == {"epoch": len(logged.epochs) - 1}
    losses = [loss for one in logged.epochs for loss in one["steps"]["loss"]]
    steps = pd.read_csv(folder / "steps.csv")["loss"].replace([np.inf, -np.inf], np.nan)
    np.testing.assert_array_equal(losses, steps)
    assert math.isnan(losses[-1])


def test_a_damaged_stage_is_not_logged(made: Runner, tmp_path: Path):
    log, stage = LocalLog(tmp_path), made.fit()
    folder = made.run(stage)
    with (folder / "steps.csv").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"?")
    with pytest.raises(Damaged):
        log.complete(stage.key, folder)
    (folder / "DONE.json").unlink()
    with pytest.raises(Damaged):
        log.complete(stage.key, folder)
    assert log.read(stage.key) == Logged([], None)


def test_a_log_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path):
    log = LocalLog(tmp_path)
    first, second = messages([(1.0, [1.0]), (2.0, [2.0] * 1000)])
    log.append("one", first)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(AblateError, match=r"one\.jsonl: cannot be written \(File too large\); free"):
            log.append("one", second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (log.folder / "one.jsonl").stat().st_size == 500
    assert log.read("one").epochs == [first]
    log.append("one", second)
    assert log.read("one").epochs == [first, second]

    (tmp_path / "file").write_text("")
    with pytest.raises(AblateError, match=r"one\.jsonl: cannot be written"):
        LocalLog(tmp_path / "file").append("one", first)
