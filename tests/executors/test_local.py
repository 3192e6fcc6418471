"""Jobs in processes of their own: progress, errors, deaths, orders to stop, a main module left alone."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate import sealed
from ablate.errors import AblateError, Damaged, StageFailed, StageStopped
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.job import Job
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes the job of a digits phase."""
    recipe = Recipe.from_dict(
        {
            "name": "d",
            "model": {"arch": "test_vit", "pretrained": False},
            "size": 16,
            "phases": [{"name": "only", "epochs": 1}],
        }
    )
    plan = make_plan(recipe, prepare(recipe).identities)
    stage = plan.stages[plan.trials[0].fits[0]]

    def make(changes: dict[str, Any] | None = None, **fields: Any) -> Job:
        folder = tmp_path / "work" / "out"
        folder.mkdir(parents=True, exist_ok=True)
        settings = stage.settings | (changes or {})
        return Job(
            **(
                {"key": "k", "label": "the stage", "settings": settings, "folder": str(folder), "data": {}}
                | fields
            )
        )

    return make


def ignore(_message: object) -> None:
    pass


def test_a_job_runs_and_reports(job, tmp_path: Path):
    told: list[dict] = []
    LocalExecutor(tmp_path / "logs").run(job(), told.append)
    assert sealed.is_whole(tmp_path / "work" / "out")
    assert (tmp_path / "work" / "out" / "weights.safetensors").is_file()
    assert any("done" in message for message in told)
    assert [message["epoch"]["epoch"] for message in told if "epoch" in message] == [0]


def test_a_job_may_have_loader_processes(job, tmp_path: Path):
    LocalExecutor(tmp_path / "logs").run(job(workers=2), ignore)
    assert sealed.is_whole(tmp_path / "work" / "out")


def test_starting_a_process_takes_less_than_importing_fastai(job, tmp_path: Path):
    executor = LocalExecutor(tmp_path / "logs")
    executor.run(job(), ignore)
    began = time.monotonic()
    with pytest.raises(StageFailed):
        executor.run(job({"kind": "none such"}), ignore)
    warm = time.monotonic() - began
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import fastai.vision.all"], check=True, capture_output=True)
    assert warm < (time.monotonic() - began) / 2


class Evaluated:
    """Becomes the value of an expression in the process that unpickles it."""

    def __init__(self, expression: str):
        self.expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self.expression,)


MODULES = "__import__('sys').modules"


def evaluated(expression: str, job: Callable[..., Job], logs: Path) -> str:
    """What an expression is in the process of a job."""
    with pytest.raises(StageFailed) as raised:
        LocalExecutor(logs).run(job({"kind": Evaluated(f"repr({expression})")}), ignore)
    (found,) = re.findall(r"KeyError: (.*); its log", str(raised.value))
    return str(ast.literal_eval(found))


def test_a_process_imports_nothing_and_collects_no_garbage_of_the_server(job, tmp_path: Path):
    collected = f"any(one is vars({MODULES}[name]) for one in __import__('gc').get_objects())"
    ours = f"[name for name in {MODULES} if name.startswith('ablate') and {collected}]"
    assert evaluated(ours, job, tmp_path / "logs") == "[]"


def test_nothing_of_wandb_is_imported_where_a_job_runs(job, tmp_path: Path):
    theirs = f"[name for name in {MODULES} if name.split('.')[0] == 'wandb']"
    assert evaluated(theirs, job, tmp_path / "logs") == "[]"
    assert evaluated("__import__('wandb').__name__", job, tmp_path / "logs") == "'wandb'"  # a technique may


def test_an_error_names_the_stage_and_its_log(job, tmp_path: Path):
    with pytest.raises(StageFailed, match=r"the stage: KeyError: 'none such'; its log is .*k\.log"):
        LocalExecutor(tmp_path / "logs").run(job({"kind": "none such"}), ignore)
    assert "Traceback" in (tmp_path / "logs" / "k.log").read_text()


def test_a_mistake_of_the_user_comes_back_as_one_sentence(job, tmp_path: Path):
    phase = job().settings["phase"] | {"batch_size": 5000}
    with pytest.raises(
        AblateError, match=r"^batch_size: 5000 is more than the 1438 training images; lower it\.$"
    ):
        LocalExecutor(tmp_path / "logs").run(job({"phase": phase}), ignore)


def test_a_killed_process_is_told_from_an_error(job, tmp_path: Path):
    phase = job().settings["phase"] | {"epochs": 500}
    killed = threading.Event()

    def kill_at_first_progress(_message: dict) -> None:
        if not killed.is_set():
            killed.set()
            for pid in _children_of_server():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(StageFailed, match="was killed, most likely because memory ran out; set micro_batch"):
        LocalExecutor(tmp_path / "logs").run(job({"phase": phase}), kill_at_first_progress)


def test_a_job_that_is_asked_to_stop_does_so_after_the_epoch(job, tmp_path: Path):
    phase, told = job().settings["phase"] | {"epochs": 500}, list[dict]()
    asked = time.monotonic() + 1
    with pytest.raises(StageStopped, match=r"the stage: stopped after epoch \d+\."):
        LocalExecutor(tmp_path / "logs").run(
            job({"phase": phase}), told.append, lambda: time.monotonic() > asked
        )
    epochs = [message["epoch"]["epoch"] for message in told if "epoch" in message]
    assert [path.name for path in (tmp_path / "work").glob("epoch-*")] == [f"epoch-{epochs[-1]}"]
    assert not sealed.is_whole(tmp_path / "work" / "out")


def test_an_order_to_stop_that_comes_too_late_loses_no_answer(job, tmp_path: Path, monkeypatch):
    """The process has ended, well, when the order is sent."""
    ended = tmp_path / "work" / "out" / "DONE.json"

    def late() -> bool:
        while not ended.exists() or _children_of_server():
            time.sleep(0.01)
        return True

    LocalExecutor(tmp_path / "logs").run(job(), ignore, late)
    assert sealed.is_whole(tmp_path / "work" / "out")


def test_a_damaged_parent_is_named(job, tmp_path: Path):
    parent = tmp_path / "parent"
    parent.mkdir()
    changes = {"parent": "p", "keeps_optimizer": False}
    with pytest.raises(Damaged) as caught:
        LocalExecutor(tmp_path / "logs").run(job(changes, parents={"p": str(parent)}), ignore)
    assert caught.value.folder == parent


def test_a_log_that_cannot_be_written_is_one_sentence(job, tmp_path: Path, capfd):
    (tmp_path / "logs").write_text("no folder")
    with pytest.raises(
        AblateError, match=r"^.*logs/k\.log: cannot be written \(.*\); once it can, the same command"
    ):
        LocalExecutor(tmp_path / "logs").run(job(), ignore)
    assert capfd.readouterr().err == ""


def test_a_killed_server_fails_the_job_and_no_process_is_left_and_the_next_job_has_another(
    job, tmp_path: Path
):
    phase = job().settings["phase"] | {"epochs": 500}
    stages: list[int] = []

    def kill_server(_message: dict) -> None:
        if not stages:
            stages.extend(_children_of_server())
            os.kill(_server(), signal.SIGKILL)

    executor = LocalExecutor(tmp_path / "logs")
    with pytest.raises(StageFailed, match="ended without an answer"):
        executor.run(job({"phase": phase}), kill_server)
    assert len(stages) == 1
    end = time.monotonic() + 5
    while _command(stages[0]):
        assert time.monotonic() < end
        time.sleep(0.02)
    (tmp_path / "work" / "out").rename(tmp_path / "work" / "other")
    executor.run(job(), ignore)
    assert sealed.is_whole(tmp_path / "work" / "out")


def test_a_temporary_folder_with_too_long_a_name_is_one_sentence(tmp_path: Path):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    code = (
        "from pathlib import Path; from ablate.errors import AblateError\n"
        "from ablate.executors.local import LocalExecutor\n"
        "try:\n    LocalExecutor(Path('logs')).warm_up()\nexcept AblateError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(long)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = f"{long}: is too long a name for a temporary folder; set TMPDIR to another.\n"
    assert done.stdout == told


def test_an_interrupt_ends_the_job_at_once(job, tmp_path: Path):
    phase = job().settings["phase"] | {"epochs": 500}

    def interrupt(_message: dict) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(tmp_path / "logs").run(job({"phase": phase}), interrupt)
    assert time.monotonic() - began < 30
    assert not _children_of_server()


def _children_of_server() -> list[int]:
    """The processes that the fork server has started."""
    server = _server()
    return [pid for pid in _pids() if _parent(pid) == server]


def _server() -> int:
    return next(pid for pid in _pids() if "forkserver" in _command(pid) and _parent(pid) == os.getpid())


def _pids() -> list[int]:
    return [int(name.name) for name in Path("/proc").iterdir() if name.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from ablate import Recipe\n"
        "recipe = Recipe.from_dict({'name': 's', 'size': 16,\n"
        "    'model': {'arch': 'test_vit', 'pretrained': False}, 'study': {'seeds': 1},\n"
        "    'phases': [{'name': 'only', 'epochs': 1}]})\n"
        "study = recipe.run()\n"
        "print(len(study.trials))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert done.stdout.splitlines()[-1] == "1"
