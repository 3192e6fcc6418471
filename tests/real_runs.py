"""`ablate run` as a process of its own, to be interrupted, killed and watched, and its outputs compared."""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pytest

from ablate import sealed

INJECTION = Path(__file__).parent / "injection"
T = TypeVar("T")


class Runs:
    """The runs of recipes in a folder with a layout of its own: `runs/<name>`, `runs/.stages`, `tmp`.

    Args:
        root: The folder.
        recipe: The values of a recipe, written to `recipe.yaml`.
    """

    def __init__(self, root: Path, recipe: dict[str, Any]):
        self.root, self.name = root, recipe["name"]
        (root / "tmp").mkdir(parents=True)
        self.temporary = Path(tempfile.mkdtemp(prefix="ablate-test-"))  # a socket's name has to be short
        atexit.register(shutil.rmtree, self.temporary, ignore_errors=True)
        self.write(recipe)
        self.numbers = 0

    def write(self, recipe: dict[str, Any]) -> None:
        """Write the recipe anew."""
        (self.root / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.root / "runs" / self.name

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "runs" / ".stages"

    def command(self, *words: str) -> list[str]:
        """The command line of a run."""
        run = [sys.executable, "-m", "ablate.cli", "run", "recipe.yaml", "--out", "runs", "--threads", "1"]
        return [*run, *words]

    def environment(self, shots: Sequence[dict[str, Any]] | None = None) -> dict[str, str]:
        """The environment of a run; with shots, even none, its calls are counted: see `injection`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ABLATE_", "COLUMNS"))}
        kept |= {"ABLATE_CACHE": str(self.root / "tmp" / "cache"), "TMPDIR": str(self.temporary)}
        if shots is not None:
            folder = self.injection
            folder.mkdir(parents=True)
            content = {"root": str(self.root / "runs"), "shots": list(shots)}
            (folder / "shots.json").write_text(json.dumps(content))
            kept |= {
                "ABLATE_INJECTION": str(folder),
                "PYTHONPATH": f"{INJECTION}:{os.environ.get('PYTHONPATH', '')}",
            }
        return kept

    @property
    def injection(self) -> Path:
        """What the present run's injection writes."""
        return self.root / "tmp" / f"injection-{self.numbers}"

    def start(
        self, *words: str, shots: Sequence[dict[str, Any]] | None = None, before: Sequence[str] = ()
    ) -> Running:
        """Start a run in a session of its own.

        Args:
            words: Further options.
            shots: See `environment`.
            before: What starts the command, such as `unshare`.
        """
        self.numbers += 1
        return Running(self, [*before, *self.command(*words)], self.environment(shots))

    def run(self, *words: str, shots: Sequence[dict[str, Any]] | None = None) -> Running:
        """Run to the end."""
        running = self.start(*words, shots=shots)
        running.wait()
        return running

    def epochs(self) -> int:
        """How many epochs the checkpoints of unfinished stages hold together."""
        return sum(int(one.name.removeprefix("epoch-")) + 1 for one in self.checkpoints())

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints of unfinished stages."""
        return [one for one in self.store.glob(".work/*/epoch-*") if sealed.is_whole(one)]

    def finished(self) -> set[str]:
        """The keys of finished stages."""
        return {seal.parent.name for seal in self.store.glob(f"[!.]*/{sealed.SEAL}")}


class Running:
    """A run on its way.

    Args:
        runs: What it is one of.
        command: The command line.
        environment: All variables.
    """

    def __init__(self, runs: Runs, command: list[str], environment: dict[str, str]):
        self.runs = runs
        folder = runs.root / "tmp"
        self._paths = [folder / f"{name}-{runs.numbers}" for name in ("stdout", "stderr")]
        with self._paths[0].open("w") as out, self._paths[1].open("w") as err:
            self.process = subprocess.Popen(
                command, cwd=runs.root, env=environment, stdout=out, stderr=err, start_new_session=True
            )

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._paths[0].read_text()

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        return self._paths[1].read_text()

    def wait(self, seconds: float = 240) -> int:
        """Its exit code; negative for a signal."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still running after {seconds} s:\n{self.stdout}\n{self.stderr}")

    def until(self, what: Callable[[], T], seconds: float = 120) -> T:
        """Wait until something is true, and give it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := what():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        pytest.fail(f"never came; exit code {self.process.returncode}:\n{self.stdout}\n{self.stderr}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes, as a terminal does."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End all its processes, and those that have outlived the first."""
        if members := session(self.process.pid):
            for pid in members:
                kill(pid)
        self.process.wait()

    def stages(self) -> list[int]:
        """The processes of stages, also those that have outlived the run."""
        return [pid for pid in session(self.process.pid) if is_stage(pid)]

    def servers(self) -> list[int]:
        """The process that stages are forked from."""
        return [pid for pid in children(self.process.pid) if "forkserver" in command_of(pid)]


def kill(pid: int) -> bool:
    """SIGKILL; gives whether the process was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def processes() -> Iterable[tuple[int, int, int]]:
    """Number, parent and session of all processes that are alive."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text(errors="replace")
                state, parent, _, own = text.rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue
            if state not in "ZX":
                yield int(path.name), int(parent), int(own)


def children(parent: int) -> list[int]:
    """The living children of a process."""
    return [pid for pid, its, _ in processes() if its == parent]


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    return [pid for pid, _, its in processes() if its == leader]


def is_stage(pid: int) -> bool:
    """Whether a process is a stage's: it prints into a log."""
    try:
        return os.readlink(f"/proc/{pid}/fd/1").endswith(".log")
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def outputs(study: Path, store: Path) -> dict[str, Any]:
    """What a finished study has written, its stages included, without times and places.

    Returns:
        By name: tables without their columns of seconds as text, other files as bytes.
    """
    files = {str(path.relative_to(study)): path for path in study.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if not name.startswith("logs/")}
    keys = [path.name for path in store.iterdir() if not path.name.startswith(".")]
    files |= {f"{key}/{path.name}": path for key in keys for path in (store / key).iterdir()}
    return {name: _content(path) for name, path in sorted(files.items())}


def _content(path: Path) -> Any:
    if path.name == "plan.json":
        return {k: v for k, v in json.loads(path.read_text()).items() if k != "store"}
    if path.name in ("trials.csv", "history.csv"):
        table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str)
        return table.drop(columns=["train_seconds", "seconds"], errors="ignore").to_csv()
    if path.parent.name == "history" and path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for part in (part for line in lines for part in line.values()):
            part.pop("seconds", None)
        return lines
    if path.name == "report.html":  # train times stand in one section of it
        return re.sub(r'<section id="cost">.*?</section>', "", path.read_text(encoding="utf-8"), flags=re.S)
    if path.name == sealed.SEAL:
        seal = json.loads(path.read_text())
        return {"status": seal["status"], "label": seal["label"], "files": sorted(seal["files"])}
    if path.name == ".finished":  # a checksum of plan.json, which names the store
        return "finished"
    return path.read_bytes()


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two studies' outputs differ, or that one of them lacks."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def leftovers(study: Path, store: Path) -> list[str]:
    """What a finished study should not have left: work, locks, temporary files."""
    hidden = [path for path in study.rglob(".*") if path.name != ".finished"]
    work = [path for name in (".work", ".locks") for path in (store / name).iterdir()]
    return sorted(str(path) for path in (*hidden, *work))


def can_mount() -> bool:
    """Whether this machine lets its user mount something for one process."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="unshare -rm and mount are not allowed here")
