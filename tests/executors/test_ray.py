"""Jobs on a Ray cluster of two nodes on this machine: how many at once, reports, errors, orders, deaths."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray_cluster import add_node, agents, cluster_of, stages, tasks, until

from ablate import sealed
from ablate.errors import AblateError, Damaged, StageFailed, StageLost, StageStopped
from ablate.executors.base import Needs, Started
from ablate.executors.fitness import Token
from ablate.executors.ray import RayExecutor
from ablate.executors.remote import RemoteAgent
from ablate.executors.task import run_stage
from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData
from ablate.study.job import Job
from ablate.study.plan import make_plan, versions
from ablate.study.prepare import prepare
from ablate.study.store import Store

RECIPE = {
    "name": "d",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "phases": [{"name": "only", "epochs": 1}],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of("a", "b") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def executor(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    executor = RayExecutor(tmp_path_factory.mktemp("logs"), "cpu", cluster.address)
    executor.warm_up()
    yield executor
    executor.close()


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes the job of a digits phase."""
    recipe = Recipe.from_dict(RECIPE)
    plan = make_plan(recipe, prepare(recipe).identities)
    stage = plan.stages[plan.trials[0].fits[0]]

    def make(changes: dict[str, Any] | None = None, key: str = "k", epochs: int = 1, **fields: Any) -> Job:
        folder = tmp_path / key / "out"
        folder.mkdir(parents=True, exist_ok=True)
        settings = stage.settings | {"phase": stage.settings["phase"] | {"epochs": epochs}} | (changes or {})
        return Job(key=key, label="the stage", settings=settings, folder=str(folder), data={}, **fields)

    return make


def nothing(key: str) -> Job:
    """A job that does nothing."""
    return Job(key, key, {"kind": "preflight", "stages": []}, "/nowhere", {})


def ignore(_message: object) -> None:
    pass


def run_all(executor: RayExecutor, jobs: Sequence[Job], seconds: float = 60) -> list[tuple[str, dict]]:
    """Run jobs; gives what they report in the order in which it came, their ends too."""
    told: list[tuple[str, dict]] = []
    started: list[Started] = [
        executor.start(one, lambda message, key=one.key: told.append((key, message))) for one in jobs
    ]
    end = time.monotonic() + seconds
    while started:
        assert time.monotonic() < end, "they do not end"
        for ended in executor.wait(started, 0.2):
            started.remove(ended)
            ended.result()
            told.append((ended.job.key, {"ended": True}))
    return told


def test_both_nodes_run_jobs_one_at_a_time_each(executor: RayExecutor):
    """A node has one CPU; the end of a job is told before its task gives that back."""
    assert executor.threads == 1
    assert executor.slots == 4
    where: dict[str, str] = {}
    running: dict[str, int] = {"a": 0, "b": 0}
    for key, message in run_all(executor, [nothing(f"n{i}") for i in range(12)]):
        if "started" in message:
            where[key] = message["started"]
            running[where[key]] += 1
            assert running[where[key]] == 1
        elif "ended" in message:
            running[where[key]] -= 1
    assert set(where.values()) == {"a", "b"}


def test_no_node_is_left_out_of_jobs_that_end_sooner_than_ray_hears_of_it(executor: RayExecutor):
    run_all(executor, [nothing(f"first {i}") for i in range(4)])  # each node has a worker now
    waiting, started, where = [nothing(f"n{i}") for i in range(60)], list[Started](), Counter[str]()
    while waiting or started:
        while waiting and len(started) < executor.slots:
            started.append(executor.start(waiting.pop(), lambda told: where.update([told.get("started")])))
        for ended in executor.wait(started, 1.0):
            started.remove(ended)
            ended.result()
    assert min(where["a"], where["b"]) >= 20


def test_a_job_takes_as_many_cpus_as_it_has_threads(executor: RayExecutor):
    with pytest.raises(AblateError) as caught:
        executor.start(replace(nothing("n"), threads=2), ignore)
    assert str(caught.value) == (
        "resources: a stage takes 2 CPU, which no node of the Ray cluster has (a: 1 CPU; b: 1 CPU, 2 GPU); "
        "start such a node, or ask for less with --resource."
    )


def test_a_job_runs_and_reports_in_order(executor: RayExecutor, job):
    told: list[dict] = []
    executor.run(job(epochs=2), told.append)
    assert "started" in told[0]
    assert any("done" in message for message in told)
    assert [message["epoch"]["epoch"] for message in told if "epoch" in message] == [0, 1]
    assert sealed.is_whole(Path(job().folder))


def test_a_job_is_told_the_devices_that_its_task_holds(cluster: Cluster, executor: RayExecutor):
    """Node b is said to have two GPUs. Nobody uses them: this test answers in the place of the agent."""
    node = next(node for node in executor.nodes if node.name == "b")
    crew = replace(executor._crew, run="another")
    task = ray.remote(run_stage).options(num_cpus=0, num_gpus=1)
    seen = []
    with Listener(crew.address(node.id), "AF_UNIX", authkey=crew.key) as listener:
        tasks = [task.remote(crew, number, nothing(f"n{number}")) for number in (1, 2)]
        connections = [listener.accept() for _ in tasks]
        for connection in connections:
            _number, job = connection.recv()
            seen.append(job.environment["CUDA_VISIBLE_DEVICES"])
        for connection in connections:
            connection.send("ended")
    assert sorted(seen) == ["0", "1"]
    assert ray.get(tasks) == [node.id, node.id]


def test_an_error_brings_its_log(executor: RayExecutor, job):
    with pytest.raises(StageFailed, match=r"^the stage: KeyError: 'none such'; its log is .*/broken\.log\.$"):
        executor.run(job({"kind": "none such"}, key="broken"), ignore)
    assert "Traceback" in (executor.logs / "broken.log").read_text()


def test_a_mistake_of_the_user_comes_back_as_one_sentence(executor: RayExecutor, job):
    phase = job().settings["phase"] | {"batch_size": 5000}
    with pytest.raises(
        AblateError, match=r"^batch_size: 5000 is more than the 1438 training images; lower it\.$"
    ):
        executor.run(job({"phase": phase}), ignore)


def test_a_damaged_parent_is_named(executor: RayExecutor, job, tmp_path: Path):
    parent = tmp_path / "parent"
    parent.mkdir()
    with pytest.raises(Damaged) as caught:
        executor.run(job({"parent": "p", "keeps_optimizer": False}, parents={"p": str(parent)}), ignore)
    assert caught.value.folder == parent


def test_a_job_that_is_asked_to_stop_does_so_after_the_epoch(executor: RayExecutor, job, tmp_path: Path):
    told: list[dict] = []
    with pytest.raises(StageStopped, match=r"the stage: stopped after epoch \d+\."):
        executor.run(job(epochs=500), told.append, lambda: any("epoch" in message for message in told))
    epochs = [message["epoch"]["epoch"] for message in told if "epoch" in message]
    assert [path.name for path in (tmp_path / "k").glob("epoch-*")] == [f"epoch-{epochs[-1]}"]


def test_a_job_that_waits_for_room_stops_at_once(executor: RayExecutor, job):
    """Two have room; the third is stopped before it begins, the others are killed."""
    started = [executor.start(job(key=key, epochs=500), ignore) for key in ("one", "two", "three")]
    until(lambda: executor.wait(started, 0.1) or len(stages()) == 2)
    started[2].stop()
    assert until(lambda: executor.wait(started, 0.2)) == [started[2]]
    with pytest.raises(StageStopped, match="the stage: stopped before it began"):
        started[2].result()
    for one in started[:2]:
        one.kill()
    assert stages() == []
    run_all(executor, [nothing("n1"), nothing("n2")])  # the nodes have room again


@pytest.mark.parametrize("victims", [tasks, pytest.param(agents, marks=pytest.mark.slow)])
def test_a_job_whose_worker_or_agent_dies_is_lost_and_leaves_nothing(executor: RayExecutor, job, victims):
    started = executor.start(job(epochs=500), ignore)
    until(lambda: executor.wait([started], 0.1) or stages())
    for pid in victims():
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: executor.wait([started], 0.2)) == [started]
    with pytest.raises(StageLost, match=r"^the stage: .* has gone.*\.$"):
        started.result()
    until(lambda: not stages())
    run_all(executor, [nothing(f"n{i}") for i in range(4)])  # there are new ones


def test_a_killed_stage_is_told_from_a_lost_one(executor: RayExecutor, job):
    started = executor.start(job(epochs=500), ignore)
    until(lambda: executor.wait([started], 0.1) or stages())
    for pid in stages():
        os.kill(pid, signal.SIGKILL)
    until(lambda: executor.wait([started], 0.2))
    with pytest.raises(StageFailed, match="was killed, most likely because memory ran out") as caught:
        started.result()
    assert not isinstance(caught.value, StageLost)


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    recipe, store = Recipe.from_dict(RECIPE), Store(tmp_path / "store")
    store.make_writable()
    identities = tuple(prepare(recipe).identities)
    return Needs(recipe.to_dict(), False, (), identities, versions(), str(store.root))


def test_nodes_that_differ_are_refused_by_name(
    executor: RayExecutor, needs: Needs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    others = (FoldData(0, "other", needs.identities[0].valid),)
    with pytest.raises(AblateError, match=r"^node [ab]: has torch .*, and the study is run with 1\.0, which"):
        executor.require(replace(needs, versions={"torch": "1.0"}))
    with pytest.raises(AblateError, match=r"^node [ab]: sees other data: the train images of fold 0 are not"):
        executor.require(replace(needs, identities=others))
    with pytest.raises(AblateError, match=r"^node [ab]: file:///proc/ablate: (there is no such|cannot be )"):
        executor.require(replace(needs, store="file:///proc/ablate"))
    elsewhere = Store(tmp_path / "elsewhere")
    with monkeypatch.context() as other_disk:
        other_disk.setattr(Token, "write", lambda self: None)
        with pytest.raises(AblateError, match=rf"^node [ab]: the stage store {elsewhere.root} is another"):
            executor.require(replace(needs, store=str(elsewhere.root)))
    executor.require(needs)
    executor.run(nothing("n"), ignore)


def test_a_node_with_another_python_is_refused_by_name(executor: RayExecutor, needs: Needs):
    crew = replace(executor._crew, run="of another python", python="3.1.2")
    agent = RemoteAgent(crew, executor.nodes[0])
    agent.begin(needs, None)
    with pytest.raises(
        AblateError, match=r"^node [ab]: has Python 3\.\d+\.\d+, and the study is run with 3\.1\.2"
    ):
        agent.check()
    agent.kill()


def test_a_node_with_another_ablate_runs_the_one_that_is_sent(
    cluster: Cluster, executor: RayExecutor, needs: Needs, tmp_path: Path
):
    executor.require(needs)
    other = tmp_path / "packages" / "ablate" / "__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("raise RuntimeError('this is another ablate')")
    node = add_node(cluster, "other", env_vars={"PYTHONPATH": str(tmp_path / "packages")})
    number, end, told = 0, time.monotonic() + 60, list[tuple[str, dict[str, Any]]]()
    while {"started": "other"} not in [message for _, message in told] and time.monotonic() < end:
        number += 1
        told += run_all(executor, [nothing(f"{number}.{i}") for i in range(6)])
    assert {"started": "other"} in [message for _, message in told]
    assert not [message for _, message in told if "note" in message]
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
def test_a_node_that_joins_is_used_and_one_that_cannot_run_stages_is_told_and_left_alone(
    cluster: Cluster, executor: RayExecutor, needs: Needs, tmp_path: Path
):
    executor.require(needs)
    other = tmp_path / "packages" / "timm-0.0.1.dist-info" / "METADATA"
    other.parent.mkdir(parents=True)
    other.write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    unfit = add_node(cluster, "unfit", env_vars={"PYTHONPATH": str(tmp_path / "packages")})
    fit = add_node(cluster, "fit")
    number, end = 0, time.monotonic() + 60
    seen: set[str] = set()
    while not {"fit", "note"} <= seen and time.monotonic() < end:
        number += 1
        told = run_all(executor, [nothing(f"{number}.{i}") for i in range(8)])
        seen |= {message["started"] for _, message in told if "started" in message}
        seen |= {"note" for _, message in told if message.get("note", "").startswith("unfit: has timm 0.0.1")}
    assert {"fit", "note"} <= seen
    assert "unfit" not in seen
    for node in (unfit, fit):
        cluster.remove_node(node, allow_graceful=False)
