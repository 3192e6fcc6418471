"""A small study that is told to W&B: made, followed, sent again, and its processes found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_runs import command_of, processes

from ablate.tracking.tracker import Tracker

STUDY: dict[str, Any] = {
    "name": "tracked",
    "data": {"source": "digits", "split": {"random": 0.2}},
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 256,
    "phases": [{"name": "one", "epochs": 2, "lr": 3e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "techniques": {"label_smoothing": {"eps": 0.2, "phases": ["two"]}},
    "study": {"vary": ["label_smoothing"], "seeds": 1, "smallest_effect": 0.01},
}


class Replay:
    """A finished study's folder, taken back to its beginning, in which the study goes by once more.

    Args:
        study: The folder.
    """

    def __init__(self, study: Path):
        self.study, self._kept = study, study.with_name("kept")
        shutil.copytree(study, self._kept)
        plan = json.loads((study / "plan.json").read_text())
        self.lines = [
            (f"{key}.jsonl", line)
            for key in dict.fromkeys(key for trial in plan["trials"] for key in trial["fits"])
            for line in (study / "history" / f"{key}.jsonl").read_text().splitlines(keepends=True)
        ]
        for path in list(study.iterdir()):
            if path.name in ("history", "plots"):
                shutil.rmtree(path)
            elif path.name not in ("plan.json", "recipe.yaml", "logs"):
                path.unlink() if path.is_file() else None
        (study / "history").mkdir()

    def train(self, lines: int) -> None:
        """Let some epochs pass, or a stage end: a line of the log each."""
        for name, line in self.lines[:lines]:
            with (self.study / "history" / name).open("a") as file:
                file.write(line)
        del self.lines[:lines]

    def finish(self) -> None:
        """Let the rest pass, and have the outputs written."""
        self.train(len(self.lines))
        shutil.copytree(self._kept, self.study, dirs_exist_ok=True)


def wait_until(what: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "never came"
        time.sleep(0.05)


def track(study: Path, mode: str = "online") -> list[str]:
    """Tell W&B of a finished study as the process that has run it does.

    Returns:
        What the person has been told, but for how far it is.
    """
    said: list[str] = []
    tracker = Tracker(study, mode, said.append)
    tracker.start()
    tracker.finish()
    tracker.abandon()
    return [sentence for sentence in said if not sentence.startswith("W&B: sending")]


def sync(study: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`ablate sync`, to its end."""
    words = [sys.executable, "-m", "ablate.cli", "sync", str(study), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def tellers(place: str) -> list[int]:
    """The living processes that talk to W&B, or were started to, with a text in their environment."""
    found = []
    for pid, _, _ in processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        command = command_of(pid)
        if place.encode() in environment and ("wandb-core" in command or "ablate.tracking" in command):
            found.append(pid)
    return found
