"""Jobs in processes of their own: progress, errors, deaths, and a main module that is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import AblateError, StageFailed
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
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
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
    assert (tmp_path / "work" / "weights.safetensors").is_file()
    assert any("done" in message for message in told)
    assert [message["epoch"]["epoch"] for message in told if "epoch" in message] == [0]


def test_a_job_may_have_loader_processes(job, tmp_path: Path):
    LocalExecutor(tmp_path / "logs").run(job(workers=2), ignore)
    assert (tmp_path / "work" / "weights.safetensors").is_file()


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
    server = next(pid for pid in _pids() if "forkserver" in _command(pid) and _parent(pid) == os.getpid())
    return [pid for pid in _pids() if _parent(pid) == server]


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
