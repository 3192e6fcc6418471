"""What `ablate status` finds out and prints: a small real study, changed in its store by hand."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from ablate.cli import main
from ablate.errors import AblateError
from ablate.sealed import seal
from ablate.study.graph import Plan
from ablate.study.show_status import MOST_ROWS, print_status
from ablate.study.status import Status, Unfinished
from ablate.study.store import Store
from ablate.study.study import FAILURES, FINISHED, Study

EPOCHS = 8
ONE, TWO, PREDICT = "baseline · one · seed 0", "baseline · two · seed 0", "baseline · predict valid · seed 0"


def change(study: Study, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the plan of a finished study."""
    content = study.plan
    edit(content)
    (study.folder / "plan.json").write_text(json.dumps(content))
    study.finish()


@pytest.fixture
def study(copy_of: Study) -> Study:
    """A finished study, to be changed, whose second phases are said to have more epochs."""

    def edit(content: dict[str, Any]) -> None:
        content["store"] = os.environ["ABLATE_STORE"]
        for stage in content["stages"].values():
            if stage["kind"] == "fit" and stage["settings"]["phase"]["name"] == "two":
                stage["settings"]["phase"]["epochs"] = EPOCHS

    change(copy_of, edit)
    return copy_of


@pytest.fixture
def store(study: Study) -> Store:
    return Store(Path(study.plan["store"]))


@pytest.fixture
def plan(study: Study) -> Plan:
    return study.stored_plan()


def key_of(plan: Plan, label: str) -> str:
    return next(key for key, stage in plan.stages.items() if stage.label == label)


def remove(store: Store, plan: Plan, label: str) -> list[str]:
    """Remove a stage and all that hang on it from the store, as if the run had not come so far."""
    gone = [key_of(plan, label)]
    for key in plan.needed(plan.stages):
        if {*gone} & {*plan.stages[key].parents}:
            gone.append(key)
    for key in gone:
        shutil.rmtree(store.folder(key), ignore_errors=True)
    return gone


def finish(store: Store, key: str, how: str) -> None:
    store.folder(key).mkdir()
    seal(store.folder(key), status=how, seconds=1.0)


def diverge(store: Store, plan: Plan, label: str) -> None:
    finish(store, remove(store, plan, label)[0], "diverged")


def seen(status: Status, width: int = 120) -> str:
    text = io.StringIO()
    print_status(status, Console(file=text, width=width, markup=False, emoji=False, highlight=False))
    return text.getvalue()


def words(status: Status) -> str:
    """What is printed, without how it is laid out."""
    return " ".join(seen(status).split())


def row(status: Status, label: str) -> Unfinished:
    return next(one for one in status.unfinished if one.label == label)


def test_a_finished_study_says_so(study: Study, plan: Plan):
    status = Status(study)
    assert status.to_dict() == {
        "name": "tiny",
        "state": "finished",
        "folder": str(study.folder),
        "store": os.environ["ABLATE_STORE"],
        "store_exists": True,
        "trials": {"ok": 8, "diverged": 0, "failed": 0, "running": 0, "pending": 0, "total": 8},
        "stages": {"done": len(plan.stages), "left": 0, "left_out": 0, "total": len(plan.stages)},
        "epochs": {"done": plan.unique_epochs, "total": plan.unique_epochs},
        "seconds_left": None,
        "next": f"Nothing is left to do; the report is {study.folder / 'report.html'}",
        "unfinished": [],
    }
    text = words(status)
    assert "state finished trials 8: 8 ok stages" in text
    assert "not finished" not in text
    assert " left" not in text.replace("is left to do", "")


def test_an_interrupted_study_tells_what_is_left(study: Study, store: Store, plan: Plan):
    gone = remove(store, plan, TWO)
    status = Status(study)
    assert status.state == "interrupted"
    assert status.trials == {"ok": 6, "diverged": 0, "failed": 0, "running": 0, "pending": 2}
    assert {one.key for one in status.unfinished} == {*gone}
    assert status.stages == {
        "done": len(plan.stages) - len(gone),
        "left": len(gone),
        "left_out": 0,
        "total": len(plan.stages),
    }
    assert status.epochs["total"] - status.epochs["done"] == EPOCHS
    assert status.next == f"`ablate run` goes on with it: {len(gone)} stages are left."
    assert row(status, TWO).waits_for == ()
    assert row(status, PREDICT).waits_for == (TWO,)
    text = words(status)
    assert f"{TWO} can run" in text
    assert f"{PREDICT} waits for {TWO}" in text
    assert str(study.folder) in text


def test_one_stage_is_left(study: Study, store: Store, plan: Plan):
    remove(store, plan, PREDICT)
    assert Status(study).next == "`ablate run` goes on with it: 1 stage is left."


def test_epochs_of_a_checkpoint_count(study: Study, store: Store, plan: Plan):
    key = remove(store, plan, TWO)[0]
    before = Status(study)
    work = store.root / ".work" / key
    for name in ("out", "epoch-1", "epoch-2", ".epoch-3"):  # the last is one that is just being written
        (work / name).mkdir(parents=True)
    status = Status(study)
    assert status.unfinished[0] == Unfinished(key, TWO, "stopped", EPOCHS, 3)
    assert f"{TWO} stopped after epoch 3 of 8" in words(status)
    assert status.epochs["done"] == before.epochs["done"] + 3
    assert before.seconds_left is not None
    assert status.seconds_left is not None
    assert 0 < status.seconds_left < before.seconds_left
    assert "about" in words(status)


def test_the_time_left_goes_by_the_work_where_nothing_alike_was_measured(
    study: Study, store: Store, plan: Plan
):
    remove(store, plan, ONE)
    (store.root / ".measured.jsonl").unlink()
    status = Status(study)
    assert status.seconds_left is None
    assert " time " not in words(status)


def test_a_stage_that_a_live_process_computes_is_running(study: Study, store: Store, plan: Plan):
    key = remove(store, plan, TWO)[0]
    (store.root / ".work" / key / "epoch-2").mkdir(parents=True)
    with store.lock(key) as ours:
        assert ours
        status = Status(study)
    assert status.state == "running"
    assert status.trials["running"] == 2
    assert status.unfinished[0].state == "running"
    assert status.next == f"It goes on by itself: {len(status.left)} stages are left."
    assert f"{TWO} running, epoch 4 of 8" in words(status)
    assert Status(study).state == "interrupted"  # the lock's file is still there, its owner is not


def test_a_prediction_under_way_has_no_epochs(study: Study, store: Store, plan: Plan):
    (key,) = remove(store, plan, PREDICT)
    with store.lock(key):
        assert f"{PREDICT} running " in f"{words(Status(study))} "


@pytest.fixture
def failed(study: Study, store: Store, plan: Plan) -> str:
    """A study of which one stage has failed, so that what hangs on it was skipped; gives its key."""
    key, *skipped = remove(store, plan, TWO)
    log = study.folder / "logs" / f"{key}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("Traceback")
    reasons = {key: f"{TWO}: RuntimeError: no [luck]; its log is {log}."}
    reasons |= dict.fromkeys(skipped, "a stage before it failed")
    (study.folder / FAILURES).write_text(json.dumps(reasons))
    return key


def test_a_failure_comes_with_reason_and_log(study: Study, failed: str):
    status = Status(study)
    log = str(study.folder / "logs" / f"{failed}.log")
    assert status.state == "failed"
    assert status.trials == {"ok": 6, "diverged": 0, "failed": 2, "running": 0, "pending": 0}
    assert status.unfinished[0] == Unfinished(
        failed, TWO, "failed", EPOCHS, 0, reason="RuntimeError: no [luck]", log=log
    )
    assert [one.state for one in status.unfinished[1:]] == ["pending"] * (len(status.unfinished) - 1)
    assert status.next.startswith("`ablate run` tries again what failed: ")
    lines = seen(status, width=80).splitlines()
    assert f"log of {TWO}: {log}" in lines  # in one piece, to be copied
    assert "failed: RuntimeError: no [luck]" in words(status)


def test_a_failure_that_had_begun_says_how_far_it_came(study: Study, store: Store, failed: str):
    (store.root / ".work" / failed / "epoch-0").mkdir(parents=True)
    (study.folder / "logs" / f"{failed}.log").unlink()
    status = Status(study)
    assert status.unfinished[0].log is None
    assert "failed after epoch 1 of 8: RuntimeError" in words(status)
    assert "log of" not in words(status)


def test_what_can_still_run_beside_a_failure_keeps_a_study_interrupted(
    study: Study, store: Store, plan: Plan, failed: str
):
    remove(store, plan, "baseline · one · seed 1")
    status = Status(study)
    assert status.state == "interrupted"
    assert status.unfinished[0].key == failed
    assert status.trials["failed"] == 2
    assert status.trials["pending"] > 0


def test_a_failure_that_is_tried_again_is_running(study: Study, store: Store, failed: str):
    with store.lock(failed):
        status = Status(study)
    assert status.state == "running"
    assert status.trials["running"] == 2
    assert status.trials["failed"] == 0


def test_a_failure_that_has_been_mended_is_none(study: Study, store: Store, plan: Plan, failed: str):
    finish(store, failed, "ok")
    status = Status(study)
    assert status.trials["pending"] == 2
    assert {one.state for one in status.unfinished} == {"pending"}


def test_what_hangs_on_a_diverged_stage_is_left_out(study: Study, store: Store, plan: Plan):
    diverge(store, plan, TWO)
    status = Status(study)
    assert status.state == "finished"
    assert status.trials == {"ok": 6, "diverged": 2, "failed": 0, "running": 0, "pending": 0}
    assert status.left == []
    assert status.stages["left_out"] == len(status.unfinished) > 0
    assert {one.state for one in status.unfinished} == {"left_out"}
    assert f"{PREDICT} left out: {TWO} diverged" in words(status)
    assert f"{status.stages['left_out']} left out" in words(status)


def test_a_study_of_which_everything_diverged_is_finished(study: Study, store: Store, plan: Plan):
    for stage in list(plan.stages.values()):
        if stage.label.split(" · ")[1] == "two":
            diverge(store, plan, stage.label)
    (study.folder / "report.md").unlink()
    status = Status(study)
    assert status.trials["diverged"] == 8
    assert status.state == "finished"
    assert status.next == "Nothing is left to do; no trial ended well"


def test_outputs_that_are_missing_are_still_to_be_written(study: Study):
    (study.folder / FINISHED).unlink()
    status = Status(study)
    assert status.state == "interrupted"
    assert status.next.startswith("`ablate run` writes the tables and the report")


def test_a_store_that_has_vanished_leaves_everything_to_do(study: Study, store: Store, plan: Plan):
    shutil.rmtree(store.root)
    status = Status(study)
    assert status.state == "interrupted"
    assert status.trials["pending"] == 8
    assert status.stages["left"] == len(plan.stages)
    assert not status.to_dict()["store_exists"]
    assert f"stage store {store.root} is not there" in words(status)
    assert not store.root.exists()


def test_many_rows_are_cut(study: Study, store: Store):
    shutil.rmtree(store.root)

    def edit(content: dict[str, Any]) -> None:
        first = next(iter(content["stages"].values()))
        for i in range(30):
            content["stages"][f"{i:032}"] = {**first, "key": f"{i:032}", "label": f"more {i}"}
            content["trials"][0]["fits"].append(f"{i:032}")
        predict = content["stages"][content["trials"][0]["predict"]]
        predict["parents"] += [f"{i:032}" for i in range(30)]

    change(study, edit)
    status = Status(study)
    lines = seen(status, width=2000).splitlines()
    assert f"… and {len(status.unfinished) - MOST_ROWS} more" in words(status)
    assert sum("can run" in line or "waits for" in line for line in lines) == MOST_ROWS
    assert len(status.to_dict()["unfinished"]) == len(status.unfinished) > MOST_ROWS


def test_a_test_counts_while_it_is_under_way(study: Study, store: Store):
    test = "t" * 32

    def edit(content: dict[str, Any]) -> None:
        for trial in content["trials"]:
            trial["test"] = test
        predict = content["stages"][content["trials"][0]["predict"]]
        content["stages"][test] = {**predict, "key": test, "label": "baseline · predict test · seed 0"}

    change(study, edit)
    assert Status(study).stages["left"] == 0  # only the winner has one, and who wins is seen at the end
    with store.lock(test):
        status = Status(study)
    assert status.state == "running"
    assert [one.key for one in status.unfinished] == [test]
    assert status.trials["ok"] == 8


def test_nothing_is_written(study: Study, store: Store, plan: Plan, failed: str):
    with store.lock(failed):
        pass

    def files() -> dict[str, int]:
        root = study.folder.parent.parent
        return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}

    before = files()
    Status(study).to_dict()
    assert files() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}'])
def test_a_plan_that_cannot_be_read_is_told(study: Study, text: str):
    (study.folder / "plan.json").write_text(text)
    with pytest.raises(AblateError, match=r"plan\.json: cannot be read"):
        Status(study)


def test_the_command_prints_text_and_json(study: Study, failed: str):
    text = CliRunner().invoke(main, ["status", str(study.folder)])
    assert text.exit_code == 0
    assert "ended, but not all of it well" in text.output
    as_json = CliRunner().invoke(main, ["status", str(study.folder), "--json"])
    assert as_json.exit_code == 0
    assert json.loads(as_json.output) == json.loads(json.dumps(Status(study).to_dict()))


def test_a_folder_that_is_no_study_is_a_users_mistake(tmp_path: Path):
    done = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert done.exit_code == 2
    assert "is no study" in done.stderr


def test_it_needs_neither_torch_nor_pandas(study: Study):
    code = (
        "import sys; from ablate.cli import main\n"
        f"main(['status', {str(study.folder)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'fastai', 'pandas'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
