"""A real small study is killed and its disk is filled again and again; its outputs are those of a quiet run.

Moments are random: `ABLATE_KILL_SEED=123` repeats those that a run of the test has printed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from real_runs import Running, Runs, differing, is_stage, kill, leftovers, needs_mounts, outputs, session

T = TypeVar("T")
STUDY: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits", "split": {"random": 0.2}},
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 3, "lr": 3e-3}, {"name": "two", "epochs": 3, "lr": 1e-3}],
    "techniques": {"mixup": {"phases": ["two"]}},
    "study": {
        "baseline": ["normalize"],
        "vary": ["mixup", "tta", {"keep": ["last", "best"]}],
        "seeds": 2,
        "smallest_effect": 0.01,
        "retries": 1,
    },
}
SEED = os.environ.get("ABLATE_KILL_SEED")  # tests themselves see none of the user's variables
IN_STAGES = ("checkpoint", "seal", "stage")
IN_MAIN = ("publication", "tables", "report", "study", "store", "lock", "log")
NEVER_MISSED = ("checkpoint", "seal", "publication", "tables", "report")
STARTED = " lock open "
"""Stands among the calls of a run once the first stage is about to start."""


@pytest.fixture
def rng() -> random.Random:
    """The random moments, repeatable."""
    seed = int(SEED or random.randrange(10**6))
    print(f"ABLATE_KILL_SEED={seed}")
    return random.Random(seed)


@dataclass
class Reference:
    """The study, run without any disturbance."""

    runs: Runs
    running: Running
    _outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, Any]:
        """What it has written, once it has ended."""
        if not self._outputs:
            assert self.running.wait() == 0, self.running.stderr
            assert leftovers(self.runs.study, self.runs.store) == []
            self._outputs = outputs(self.runs.study, self.runs.store)
        return self._outputs

    def calls(self) -> Counter[str]:
        """How many calls of a kind it takes."""
        assert self.outputs
        kinds = [line.split()[1] for line in (self.runs.injection / "calls").read_text().splitlines()]
        return Counter({"any": len(kinds), **Counter(kinds)})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    runs = Runs(tmp_path_factory.mktemp("quiet"), STUDY)
    running = runs.start(shots=[])
    yield Reference(runs, running)
    running.kill()


class Torture:
    """A study that is run again and again, and gets no rest.

    Args:
        runs: Its runs.
        rng: The moments.
    """

    def __init__(self, runs: Runs, rng: random.Random):
        self.runs, self.rng, self.began = runs, rng, time.monotonic()
        self.kills: Counter[str] = Counter()
        self.fulls: Counter[str] = Counter()

    def shots(self, *shots: dict[str, Any]) -> int:
        """Run with injected kills or full disks; gives the exit code."""
        running = self.runs.run(shots=shots)
        fired = self._fired()
        for line in fired:
            _, action, kind, operation, path = line.split(" ", 4)
            (self.kills if action == "kill" else self.fulls)[kind] += 1
            self._tell(f"{action} in {kind}: {operation} {path}")
        self._check(running)
        if any(" full " in line for line in fired) and running.process.returncode != -signal.SIGKILL:
            assert running.process.returncode in (1, 2), (fired, running.stdout, running.stderr)
            *others, last = running.stderr.splitlines()
            assert all("was killed" in line for line in others), running.stderr
            assert "No space left on device" in last or "disk is full" in last, running.stderr
        return running.process.returncode

    def timed(self, whom: str, startup: float, stages: int = 0) -> int:
        """Kill stages' processes some times, then the whole run, or its main process, at a random moment.

        Args:
            whom: `group`, `main`, `server`, or `stage` for nothing but the stages.
            startup: How likely it is killed while it starts.
            stages: How many stages to kill before.
        """
        running = self.runs.start(shots=[])
        if self.rng.random() < startup:
            time.sleep(self.rng.uniform(0, 10))
        else:
            self._await(running, lambda: STARTED in self._calls())
            for _ in range(stages):
                time.sleep(self.rng.uniform(0, 1))
                if sum(map(kill, self._await(running, running.stages) or ())):
                    self._killed("stage", running)
            time.sleep(self.rng.uniform(0, 2))
        if running.process.poll() is None and whom != "stage":
            targets = {"main": [running.process.pid], "server": running.servers()}
            pids = targets.get(whom) or session(running.process.pid)
            if sum(map(kill, pids)):
                self._killed(whom, running)
        running.wait()
        self._check(running)
        return running.process.returncode

    @staticmethod
    def _await(running: Running, what: Callable[[], T]) -> T | None:
        """Wait until something is true, unless the run ends before."""
        while not (found := what()) and running.process.poll() is None:
            time.sleep(0.02)
        return found

    def _calls(self) -> str:
        path = self.runs.injection / "calls"
        return path.read_text() if path.exists() else ""

    def _killed(self, whom: str, running: Running) -> None:
        calls = self._calls()
        when = "running" if STARTED in calls else "starting"
        self.kills[f"{whom}, {when}"] += 1
        self._tell(f"kill {whom}, {when}, after: {calls.splitlines()[-1] if calls else 'nothing'}")

    def _fired(self) -> list[str]:
        path = self.runs.injection / "fired"
        return path.read_text().splitlines() if path.exists() else []

    def _check(self, running: Running) -> None:
        """Nothing that people cannot read is printed, and no stage outlives the run for long."""
        filled = any(" full " in line for line in self._fired())
        assert running.process.returncode in (-signal.SIGKILL, 0, 1, 2 if filled else 1), running.stderr
        assert "Traceback" not in running.stderr, running.stderr
        end = time.monotonic() + 10
        while any(is_stage(pid) for pid in session(running.process.pid)):
            assert time.monotonic() < end
            time.sleep(0.05)

    def _tell(self, text: str) -> None:
        passed = time.monotonic() - self.began
        print(
            f"{passed:.0f} s: {self.kills.total()} kills, {self.fulls.total()} full disks: {text}", flush=True
        )

    def finish(self, reference: Reference) -> None:
        """Let the study end, and compare."""
        for _ in range(2):  # a stage may have failed for good
            last = self.runs.run()
            if last.process.returncode == 0:
                break
        assert last.process.returncode == 0, last.stderr
        self.compare(reference)

    def compare(self, reference: Reference) -> None:
        """The outputs and stages are those of the quiet run, and nothing else is left."""
        assert differing(reference.outputs, outputs(self.runs.study, self.runs.store)) == []
        assert leftovers(self.runs.study, self.runs.store) == []


def shot(rng: random.Random, action: str, kind: str, most: int) -> dict[str, Any]:
    """A shot at a random call of a kind."""
    after, lasting = rng.random() < 0.5, rng.random() < 0.5
    return {"kind": kind, "action": action, "at": rng.randint(1, most), "after": after, "lasting": lasting}


def test_short(reference: Reference, rng: random.Random, tmp_path: Path):
    torture = Torture(Runs(tmp_path / "tortured", STUDY), rng)
    kills = [("checkpoint", 60), ("seal", 10), ("tables", 10)]
    shots = [shot(rng, "kill", kind, most) for kind, most in kills]
    torture.shots(*shots)
    if not torture.kills["tables"]:  # a checkpoint was removed in the main process, which had none written
        torture.shots(shots[-1])
    torture.timed("group", startup=0, stages=1)
    torture.shots(shot(rng, "full", rng.choice(IN_STAGES), 10))
    torture.shots(shot(rng, "kill", "report", 6))
    torture.shots(shot(rng, "full", rng.choice(("tables", "report")), 6))
    torture.finish(reference)
    print(torture.kills, torture.fulls)
    assert torture.kills.total() >= 6
    assert torture.fulls.total() == 2


@pytest.mark.slow
def test_at_least_50_kills_and_10_full_disks(reference: Reference, rng: random.Random, tmp_path: Path):
    calls = reference.calls()
    kills: Counter[str] = Counter()
    fulls: Counter[str] = Counter()
    rounds = 0
    while kills.total() < 50 or fulls.total() < 10 or not all(kills[kind] for kind in NEVER_MISSED):
        rounds += 1
        torture = Torture(Runs(tmp_path / f"tortured-{rounds}", STUDY), rng)
        for _ in range(20):
            missed = [kind for kind in NEVER_MISSED if not (kills + torture.kills)[kind]]
            if disturb(torture, rng, calls, missed, (fulls + torture.fulls).total() < 10) == 0:
                break
        torture.finish(reference)
        kills, fulls = kills + torture.kills, fulls + torture.fulls
        print(f"{rounds} rounds, {kills.total()} kills, {fulls.total()} full disks")
    print(dict(kills), dict(fulls))


def disturb(
    torture: Torture, rng: random.Random, calls: Counter[str], missed: Sequence[str], full: bool
) -> int:
    """One run with disturbances of a random kind.

    Args:
        torture: Does it.
        rng: The moments.
        calls: How many of a kind a quiet run makes.
        missed: Kinds that no kill has hit so far.
        full: Whether to fill the disk too.

    Returns:
        The exit code.
    """
    way = rng.choice(["full", "full", "timed", "main", "stages"] if full else ["timed", "main", "stages"])
    if way == "timed":
        return torture.timed(rng.choice(["group", "main", "server"]), 0.2, stages=rng.randint(0, 4))

    def anywhere(action: str, *kinds: str) -> dict[str, Any]:
        kind = rng.choice(kinds)
        return shot(rng, action, kind, max(calls[kind] // 3, 1))

    # a kill in a stage costs that stage alone, so there may be several in one run
    several = {"full": rng.randint(0, 2), "main": rng.randint(2, 4), "stages": rng.randint(4, 6)}
    shots = [anywhere("kill", *IN_STAGES) for _ in range(several[way])]
    if way == "main":
        shots.append(anywhere("kill", *(missed or IN_MAIN)))
    elif way == "full":
        shots.append(anywhere("full", *IN_STAGES, *IN_MAIN, "any"))
    return torture.shots(*shots)


FULL_DISK = """
mount -t tmpfs -o size=100m tmpfs runs && cp -a tmp/before/. runs/ || exit 99
used=$(du -sk runs | cut -f1)
mount -o remount,size=$((used + SLACK))k runs || exit 99
"$@" >tmp/full.out 2>tmp/full.err
echo $? >tmp/full.code
mount -o remount,size=100m runs || exit 99
"$@" || exit
cp -a runs tmp/after
"""


@pytest.mark.slow
@needs_mounts
def test_a_disk_that_is_really_full(reference: Reference, rng: random.Random, tmp_path: Path):
    """Most of the study is there; what is left of the disk is too small for the rest."""
    runs = Runs(tmp_path / "full", STUDY)
    before = runs.root / "tmp" / "before"
    assert reference.outputs
    shutil.copytree(reference.runs.root / "runs", before)
    for settings in before.glob(".stages/[!.]*/settings.json"):
        stage = json.loads(settings.read_text())
        if stage["seed"] == 1 and "mixup" in str(stage["techniques"]):
            shutil.rmtree(settings.parent)
    (runs.root / "runs").mkdir()
    slack = rng.randint(100, 7500)  # a checkpoint takes 4,100, and the one before goes after it
    command = ["unshare", "-rm", "sh", "-c", FULL_DISK.replace("SLACK", str(slack)), "sh"]
    running = runs.start(before=command)
    assert running.wait() == 0, running.stderr
    told = (runs.root / "tmp" / "full.err").read_text()
    print(f"{slack} KiB left:", told)
    assert (runs.root / "tmp" / "full.code").read_text() == "2\n", told
    assert len(told.splitlines()) == 1
    assert "disk is full" in told or "No space left on device" in told
    after = runs.root / "tmp" / "after"
    assert differing(reference.outputs, outputs(after / "small", after / ".stages")) == []
    assert leftovers(after / "small", after / ".stages") == []
