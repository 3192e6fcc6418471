"""Stages of a plan, run by an executor that does as it is told: order, retries, failures, damage, company."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_stores import begin, computed_elsewhere, finish, flip, make_store

from ablate import sealed
from ablate.errors import AblateError, Damaged, StageFailed, StageLost, StageStopped
from ablate.executors import base
from ablate.executors.base import Report, Started
from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan, Stage, Trial
from ablate.study.job import Job
from ablate.study.loop import Beside, run_stages
from ablate.study.running import Run
from ablate.study.store import Store


def stage(
    key: str, *parents: str, kind: str = "fit", epochs: int = 1, size: int = 16, seed: int = 0
) -> Stage:
    phase = {"epochs": epochs, "size": size, "freeze": False, "precision": "float32", "batch_size": 64}
    settings = {"kind": kind, "phase": phase, "techniques": [], "model": {"arch": "none"}}
    settings |= {"data": {}, "device": {}}
    return Stage(key, kind, f"stage {key}", settings, seed, 0, tuple(parents))


def plan_of(*stages: Stage) -> Plan:
    """A plan with a trial per seed, which is all that the order of seeds needs."""
    seeds = sorted({one.seed for one in stages})
    trials = [Trial("baseline", seed, 0, {}, (), "") for seed in seeds]
    return Plan(trials, {one.key: one for one in stages})


DIAMOND = plan_of(
    stage("root"), stage("a", "root"), stage("b", "root"), stage("ab", "a", "b"), stage("after a", "a")
)
"""Everything hangs on `root`; `ab` on `a` and `b`."""


class Ending(Started):
    """A job that does nothing but end as it is told."""

    def __init__(self, job: Job, report: Report, executor: Executor):
        super().__init__(job)
        self.report, self.executor = report, executor

    def stop(self) -> None:
        self.executor.stopped.append(self.job.key)

    def kill(self) -> None:
        self.executor.killed.append(self.job.key)

    def result(self) -> None:
        left = self.executor.endings.get(self.job.key, [])
        ending = left.pop(0) if left else "ok"
        ending = ending(self.job) if callable(ending) else ending
        if isinstance(ending, BaseException):
            raise ending
        (Path(self.job.folder) / "weights").write_text(self.job.key)
        sealed.seal(Path(self.job.folder), label=self.job.label, status=ending, seconds=1.0)


class Executor(base.Executor):
    """Runs no job; each ends as is told for its key, at first by the first of its endings.

    An ending is a status, an error to raise, or a function of the job that gives one of them. Of several jobs
    the one that was started first ends first, unless `chooses` says otherwise.
    """

    slots, threads, device = 1, 1, "cpu"

    def __init__(self, **endings: list[Any]):
        self.endings, self.jobs = endings, list[Job]()
        self.stopped, self.killed = list[str](), list[str]()
        self.at_once = list[list[str]]()
        """The keys of the jobs that were running, at every look."""

    @property
    def ran(self) -> list[str]:
        return [job.key for job in self.jobs]

    def start(self, job: Job, report: Report) -> Started:
        self.jobs.append(job)
        report({"started": ""})
        return Ending(job, report, self)

    def wait(self, started: Sequence[Started], timeout: float) -> list[Started]:
        self.at_once.append([one.job.key for one in started])
        return [self.chooses(started)]

    def chooses(self, started: Sequence[Started]) -> Started:
        return started[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


@pytest.fixture
def run(store: Store) -> Callable[..., tuple[Run, list[str]]]:
    """Runs all stages of a plan; gives the run and the stages that were told as finished."""

    def make(
        executor: Executor,
        plan: Plan = DIAMOND,
        retries: int = 0,
        beside: Beside = lambda: None,
        **fields: Any,
    ) -> Any:
        values = {"name": "r", "phases": [{"name": "one", "epochs": 1}], "study": {"retries": retries}}
        pixels = [((0.5,) * 3, (0.25,) * 3)]
        prepared: Any = SimpleNamespace(presized={}, without=lambda fold: (), pixels=pixels)
        display, recipe = Mock(), Recipe.from_dict(values)
        log, tracker = Mock(), Mock()
        made = Run(recipe, plan, prepared, store, executor, display, log, tracker, 1, 0, False, **fields)
        told: list[str] = []
        run_stages(made, plan.needed(plan.stages), lambda one: told.append(one.key), beside)
        return made, told

    return make


def problems(made: Run) -> list[str]:
    return [call.args[0] for call in made.display.problem.call_args_list]  # type: ignore[attr-defined]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Random graphs, each stage of one seed and with parents among the stages of that seed."""
    stages: list[Stage] = []
    seeds = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    for number in range(draw(st.integers(1, 15))):
        seed = draw(st.sampled_from(seeds))
        possible = [one.key for one in stages if one.seed == seed]
        parents = draw(st.lists(st.sampled_from(possible), unique=True, max_size=2)) if possible else []
        kind = draw(st.sampled_from(["fit", "predict", "lr_find"]))
        epochs, size = draw(st.integers(1, 100)), draw(st.sampled_from([1, 16, 512]))
        stages.append(stage(str(number), *parents, kind=kind, epochs=epochs, size=size, seed=seed))
    trials = [Trial("baseline", seed, 0, {}, (), "") for seed in seeds]
    shuffled = draw(st.permutations(stages))
    return Plan(trials, {one.key: one for one in shuffled})


def longest(plan: Plan, key: str) -> float:
    """The work of the longest path from a stage to an end, its own included."""
    below = [one.key for one in plan.stages.values() if key in one.parents]
    return plan.stages[key].work + max((longest(plan, one) for one in below), default=0.0)


@given(plan=plans())
def test_order_is_by_seed_then_by_what_is_left_behind_it_and_parents_come_first(plan: Plan):
    order = plan.in_order(plan.needed(plan.stages))
    assert sorted(order) == sorted(plan.stages)
    place = {key: number for number, key in enumerate(order)}
    for one in plan.stages.values():
        assert all(place[parent] < place[one.key] for parent in one.parents)
    seeds = [trial.seed for trial in plan.trials]
    ranks = [(seeds.index(plan.stages[key].seed), -longest(plan, key)) for key in order]
    assert ranks == sorted(ranks)


def test_each_stage_runs_once_with_its_parents_folders(run, store: Store):
    executor = Executor()
    _, told = run(executor)
    assert executor.ran == told == ["root", "a", "b", "ab", "after a"]
    assert executor.jobs[3].parents == {key: str(store.folder(key)) for key in ("a", "b")}
    assert all(store.status(key) == "ok" for key in DIAMOND.stages)
    assert not list((store.root / ".work").iterdir())
    assert not list((store.root / ".locks").iterdir())


class Telling(Executor):
    """Every stage reports its progress, and notes."""

    def __init__(self, **notes: list[str]):
        super().__init__()
        self.notes = notes

    def start(self, job: Job, report: Report) -> Started:
        started = super().start(job, report)
        report({"done": 1, "total": 2})
        for note in self.notes.get(job.label.removeprefix("stage ").replace(" ", "_"), []):
            report({"note": note})
        return started


def test_what_several_stages_note_is_said_once(run):
    slow, odd = "phase one: every step is compiled anew", "phase two: xla leaves nonzero to the host"
    made, _ = run(Telling(root=[slow, slow], a=[slow], b=[odd, slow], after_a=[odd]))
    assert [call.args for call in made.display.note.call_args_list] == [(slow,), (odd,)]
    reported = [call.args for call in made.display.report.call_args_list]
    assert reported == [(one, {"done": 1, "total": 2}) for one in DIAMOND.stages.values()]
    assert [call.args[0] for call in made.display.stage.call_args_list] == [*DIAMOND.stages.values()]
    assert made.display.say.call_count == made.display.problem.call_count == 0
    said_again, _ = run(Telling(), plan=plan_of(stage("other")))
    assert said_again.notes == set()  # another run says it again


def test_what_takes_its_time_is_done_while_jobs_work(run, store: Store):
    executor, done = Executor(), list[tuple[list[str], list[str]]]()

    def beside() -> None:
        done.append(([*executor.ran], sorted(store.keys())))

    run(executor, beside=beside)
    assert done == [
        (["root"], []),
        (["root", "a"], ["root"]),
        (["root", "a", "b"], ["a", "root"]),
        (["root", "a", "b", "ab"], ["a", "b", "root"]),
        (["root", "a", "b", "ab", "after a"], ["a", "ab", "b", "root"]),
    ]


def test_what_is_found_damaged_beside_the_jobs_is_computed_again(run, store: Store):
    executor = Executor()

    def beside() -> None:
        if executor.ran == ["root", "a", "b"]:
            flip(store.folder("a") / "weights")
            raise Damaged(store.folder("a"))

    made, _ = run(executor, beside=beside)
    assert executor.ran == ["root", "a", "b", "a", "ab", "after a"]
    assert problems(made) == [f"{store.folder('a')}: is damaged; it is set aside and computed again."]


def test_what_is_finished_is_not_run(run, store: Store):
    finish(store, "root")
    finish(store, "b")
    executor = Executor()
    run(executor)
    assert executor.ran == ["a", "ab", "after a"]


def test_what_a_kill_left_between_seal_and_publication_is_not_run_again(run, store: Store):
    out = store.workplace("root") / "out"
    (out / "weights").write_text("from before")
    sealed.seal(out, label="root", status="ok", seconds=1.0)
    executor = Executor()
    _, told = run(executor)
    assert executor.ran == ["a", "b", "ab", "after a"]
    assert told[0] == "root"
    assert (store.folder("root") / "weights").read_text() == "from before"


def test_a_failed_stage_skips_what_depends_on_it_alone(run, store: Store):
    executor = Executor(b=[StageFailed("stage b: broke")])
    made, _ = run(executor)
    assert executor.ran == ["root", "a", "b", "after a"]
    assert made.failed == {"b": "stage b: broke", "ab": "a stage before it failed"}
    assert problems(made) == ["stage b: broke"]
    assert not store.has("ab")


def test_a_stage_that_fails_once_is_tried_again(run, store: Store):
    executor = Executor(b=[StageFailed("stage b: broke.")])
    made, _ = run(executor, retries=2)
    assert executor.ran == ["root", "a", "b", "b", "ab", "after a"]
    assert made.failed == {}
    assert problems(made) == ["stage b: broke. Trying again (2 left)."]


def test_a_stage_is_not_tried_for_ever(run, store: Store):
    executor = Executor(b=[StageFailed(f"broke {n}") for n in range(9)])
    made, _ = run(executor, retries=2)
    assert executor.ran.count("b") == 3
    assert made.failed["b"] == "broke 2"


def test_another_try_finds_the_checkpoints_and_an_empty_folder(run, store: Store):
    found: list[tuple[list[str], list[str]]] = []

    def breaks(job: Job) -> Exception:
        out = Path(job.folder)
        found.append(([one.name for one in out.parent.glob("epoch-*")], [one.name for one in out.iterdir()]))
        (out.parent / f"epoch-{len(found) - 1}").mkdir()
        (out / "half").write_text("written")
        return StageFailed("broke")

    run(Executor(a=[breaks, breaks]), retries=1)
    assert found == [([], []), (["epoch-0"], [])]
    assert (store.root / ".work" / "a" / "epoch-1").is_dir()


def test_a_mistake_of_the_user_ends_the_run_at_once_and_frees_the_stage(run, store: Store):
    executor = Executor(b=[AblateError("batch_size: too large")])
    with pytest.raises(AblateError, match="batch_size"):
        run(executor, retries=5)
    assert executor.ran == ["root", "a", "b"]
    assert not store.is_locked("b")


def test_what_depends_on_a_diverged_stage_is_left_out(run, store: Store):
    executor = Executor(b=["diverged"])
    made, told = run(executor, retries=5)
    assert executor.ran == ["root", "a", "b", "after a"]
    assert told == ["root", "a", "b", "ab", "after a"]
    assert store.status("b") == "diverged"
    assert "ab" in made.failed


def test_what_hangs_on_a_diverged_stage_at_any_distance_is_not_missing(run, store: Store):
    chain = plan_of(stage("a"), stage("b", "a"), stage("c", "b"), stage("d", "c"), stage("other"))
    made, _ = run(Executor(b=["diverged"], other=[StageFailed("broke")]), plan=chain)
    assert made.missing(chain.needed(chain.stages)) == ["other"]


def test_a_damaged_parent_is_set_aside_and_computed_again(run, store: Store):
    for key in ("root", "a", "b"):
        finish(store, key)

    def reads(_job: Job) -> Any:
        damaged = any(sealed.damaged_files(store.folder("a")))
        return Damaged(store.folder("a")) if damaged else "ok"

    flip(store.folder("a") / "weights")  # its size and time are as before, so only who reads it can tell
    executor = Executor(ab=[reads, reads])
    executor.endings["after a"] = [reads, reads]
    made, _ = run(executor)
    assert executor.ran == ["ab", "a", "ab", "after a"]
    assert problems(made) == [f"{store.folder('a')}: is damaged; it is set aside and computed again."]
    assert made.failed == {}
    assert len(list((store.root / ".damaged").iterdir())) == 1


def test_a_stage_that_another_process_has_mended_meanwhile_is_only_tried_again(run, store: Store):
    finish(store, "root")
    executor = Executor(a=[Damaged(store.folder("root"))])
    made, _ = run(executor)
    assert executor.ran == ["a", "a", "b", "ab", "after a"]
    assert problems(made) == []
    assert store.has("root")


def test_a_stage_that_seems_damaged_and_is_not_ends_the_run(run, store: Store):
    finish(store, "root")
    with pytest.raises(Damaged, match="root: is damaged"):
        run(Executor(a=[lambda _job: Damaged(store.folder("root"))] * 100))


def test_a_stage_of_the_plan_that_is_not_whole_is_set_aside_before(run, store: Store):
    made, _ = run(Executor())
    os.truncate(store.folder("b") / "weights", 0)
    begin(store, "unfinished", epochs=1)
    later = Run(**{**vars(made), "store": Store(store.root)})
    later.set_damaged_aside()
    assert [key for key in DIAMOND.stages if not later.store.has(key)] == ["b"]


def test_stopping_leaves_the_rest_and_fails_nothing(run, store: Store):
    stop = threading.Event()

    def stopped(_job: Job) -> Exception:
        stop.set()
        return StageStopped("stage b: stopped after epoch 3.")

    executor = Executor(b=[stopped])
    made, told = run(executor, stopping=stop.is_set)
    assert executor.ran == ["root", "a", "b"]
    assert told == ["root", "a"]
    assert made.failed == {}
    assert not store.is_locked("b")


def test_a_stage_that_finishes_although_it_should_stop_counts(run, store: Store):
    stop = threading.Event()

    def finishes(_job: Job) -> str:
        stop.set()
        return "ok"

    _, told = run(Executor(b=[finishes]), stopping=stop.is_set)
    assert told == ["root", "a", "b"]
    assert store.has("b")


def test_what_another_process_computes_is_waited_for_and_not_computed(run, store: Store):
    """Meanwhile the others are; and that somebody waits is told once."""
    executor = Executor()

    def elsewhere() -> None:
        time.sleep(1.5)
        finish(Store(store.root), "a")

    with computed_elsewhere(store, "a"):
        other = threading.Thread(target=elsewhere)
        other.start()
        made, told = run(executor)
        other.join()
    assert executor.ran == told == ["root", "b", "ab", "after a"]
    notes = [call.args[0] for call in made.display.note.call_args_list]
    assert notes == ["waiting for another `ablate run` that computes the same stages"]


def test_what_another_process_gave_up_is_computed(run, store: Store):
    executor = Executor()
    began = threading.Event()

    def gives_up() -> None:
        with computed_elsewhere(store, "a"):
            began.set()
            time.sleep(1)

    other = threading.Thread(target=gives_up)
    other.start()
    assert began.wait(60)
    run(executor)
    other.join()
    assert sorted(executor.ran) == sorted(DIAMOND.stages)


class Several(Executor):
    """Takes several jobs at once; the one that ends is chosen by numbers that are given."""

    def __init__(self, slots: int, choices: Sequence[int] = (0,), **endings: list[Any]):
        super().__init__(**endings)
        self.slots, self.choices = slots, list(choices)  # type: ignore[misc]

    def chooses(self, started: Sequence[Started]) -> Started:
        number = self.choices[len(self.at_once) % len(self.choices)]
        return started[number % len(started)]


@given(plan=plans(), slots=st.integers(1, 5), choices=st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_no_stage_waits_while_there_is_room_and_none_begins_before_its_parents(
    plan: Plan, slots: int, choices: list[int], tmp_path_factory: pytest.TempPathFactory
):
    store = make_store(tmp_path_factory.mktemp("store"))
    executor = Several(slots, choices)
    values = {"name": "r", "phases": [{"name": "one", "epochs": 1}]}
    prepared: Any = SimpleNamespace(
        presized={}, without=lambda fold: (), pixels=[((0.5,) * 3, (0.25,) * 3)] * 10
    )
    recipe = Recipe.from_dict(values)
    made = Run(recipe, plan, prepared, store, executor, Mock(), Mock(), Mock(), 1, 0, False)
    told: list[str] = []
    run_stages(made, plan.in_order(plan.stages), lambda one: told.append(one.key))
    assert sorted(told) == sorted(executor.ran) == sorted(plan.stages)
    ended: set[str] = set()
    for running, next_ended in zip(executor.at_once, told, strict=True):
        could = {
            key for key, one in plan.stages.items() if key not in ended and ended.issuperset(one.parents)
        }
        assert set(running) <= could
        assert len(running) == min(slots, len(could))
        ended.add(next_ended)


def test_a_stage_that_is_lost_goes_on_elsewhere_and_that_is_no_failure(run, store: Store):
    executor = Executor(b=[StageLost("stage b: its node has gone.")] * 4)
    made, _ = run(executor)
    assert executor.ran == ["root", "a", *["b"] * 5, "ab", "after a"]
    assert made.failed == {}
    assert problems(made) == ["stage b: its node has gone. It goes on from its last checkpoint."] * 4


def test_a_stage_that_is_lost_again_and_again_without_an_epoch_fails(run):
    executor = Executor(b=[StageLost("stage b: its node has gone.")] * 9)
    made, _ = run(executor)
    assert executor.ran.count("b") == 5
    assert made.failed == {"b": "stage b: its node has gone.", "ab": "a stage before it failed"}


class Steady(Executor):
    """Every job finishes an epoch before it ends."""

    def start(self, job: Job, report: Report) -> Started:
        started = super().start(job, report)
        report({"epoch": {"epoch": 0}, "steps": {}})
        return started


def test_a_stage_that_gets_on_may_be_lost_often(run, store: Store):
    made, _ = run(Steady(b=[StageLost("stage b: its node has gone.")] * 20))
    assert made.failed == {}
    assert store.has("b")
    appended = [call.args[0] for call in made.log.append.call_args_list]
    assert appended.count("b") == 21


def test_a_stage_that_is_tried_again_does_not_hold_up_what_hangs_on_it(run):
    """While `a` is tried again, `b` runs, and `ab` waits for both."""
    executor = Several(2, a=[StageFailed("stage a: broke.")])
    made, _ = run(executor, retries=1)
    assert executor.ran == ["root", "a", "b", "a", "after a", "ab"]
    assert executor.at_once == [["root"], ["a", "b"], ["a", "b"], ["b", "after a"], ["after a", "ab"], ["ab"]]
    assert made.failed == {}


def test_an_error_ends_what_runs_beside_it_and_frees_all(run, store: Store):
    executor = Several(2, a=[AblateError("batch_size: too large")])
    with pytest.raises(AblateError, match="batch_size"):
        run(executor)
    assert executor.killed == ["b"]
    assert not store.is_locked("a")
    assert not store.is_locked("b")


def test_a_second_interrupt_ends_all_that_runs(run, store: Store):
    executor = Several(2, a=[KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run(executor)
    assert executor.killed == ["b"]
    assert not store.is_locked("b")


def test_all_that_runs_is_asked_to_stop_once(run, store: Store):
    stop = threading.Event()

    def stopped(job: Job) -> Exception:
        stop.set()
        return StageStopped(f"{job.label}: stopped after epoch 3.")

    executor = Several(2, a=[stopped], b=[stopped])
    made, told = run(executor, stopping=stop.is_set)
    assert executor.stopped == ["b"]
    assert (told, made.failed) == (["root"], {})
