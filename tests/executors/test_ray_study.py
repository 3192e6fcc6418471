"""Whole studies on a Ray cluster on this machine: the numbers of the local executor, whatever dies."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray.cluster_utils import Cluster
from ray_cluster import add_node, agents, cluster_of, stages, until
from real_runs import Runs

from ablate.executors.remote import RemoteAgent, RemoteJob
from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

SMALL: dict[str, Any] = {
    "name": "small",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 256,
    "phases": [{"name": "one", "epochs": 5, "lr": 1e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "techniques": {"mixup": {"phases": ["two"]}},
    "study": {"baseline": ["normalize"], "vary": ["mixup"], "seeds": 2, "smallest_effect": 0.01},
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study as it is without Ray."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(folder / "cache"))
        patch.setenv("ABLATE_STORE", str(folder / "store"))
        return Recipe.from_dict(SMALL).run(folder / "runs", threads=1, device="cpu", wandb="off")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with cluster_of("a", "b") as cluster:
        yield cluster


class Placed:
    """Where the jobs of a study run, and which epochs they report there, each time that they begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.nodes: dict[str, list[str]] = defaultdict(list)
        self.epochs: dict[str, list[list[int]]] = defaultdict(list)
        begin = RemoteJob.begin

        def listening(job: RemoteJob, agent: RemoteAgent) -> None:
            report, epochs = job.report, list[int]()
            self.nodes[job.job.key].append(agent.node.name)
            self.epochs[job.job.key].append(epochs)

            def told(message: dict[str, Any]) -> None:
                if "epoch" in message:
                    epochs.append(message["epoch"]["epoch"])
                report(message)

            job.report = told
            begin(job, agent)

        monkeypatch.setattr(RemoteJob, "begin", listening)

    def on(self, node: str, epochs: int) -> str | None:
        """A stage that is on a node, first of all, and has finished so many epochs."""
        found = (
            key for key, own in self.epochs.items() if self.nodes[key] == [node] and len(own[0]) >= epochs
        )
        return next(found, None)


def label(study: Study, key: str) -> str:
    """What people call a stage."""
    return re.escape(study.plan["stages"][key]["label"])


def same(one: Study, other: Study) -> None:
    """Two studies have predicted the same, bit for bit."""
    pd.testing.assert_frame_equal(one.predictions(), other.predictions(), check_exact=True)
    columns = [name for name in one.predictions().columns if name.startswith("p_")]
    assert (
        one.predictions()[columns].to_numpy().tobytes() == other.predictions()[columns].to_numpy().tobytes()
    )
    assert (one.folder / "effects.csv").read_bytes() == (other.folder / "effects.csv").read_bytes()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A W&B service on this machine."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tracking")
    from loopback import Loopback
    from wandb_backend import KEY

    loopback = Loopback()
    for name, value in {"BASE_URL": loopback.url, "API_KEY": KEY, "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield loopback
    loopback.stop()


def test_a_study_of_which_a_node_dies_in_the_middle_has_the_same_predictions(
    cluster: Cluster, local: Study, service: Any, monkeypatch, capsys, tmp_path: Path
):
    """And one group at W&B, with each row of its trials once."""
    from arrived import lacking

    placed, doomed, lost = Placed(monkeypatch), next(iter(cluster.worker_nodes)), list[str]()

    def kill() -> None:
        end = time.monotonic() + 100
        while not (key := placed.on("b", 2)) and time.monotonic() < end:
            time.sleep(0.01)
        if key:
            cluster.remove_node(doomed, allow_graceful=False)
            lost.append(key)

    killer = threading.Thread(target=kill)
    killer.start()
    study = Recipe.from_dict(SMALL).run(
        tmp_path, device="cpu", executor="ray", address=cluster.address, wandb="online"
    )
    killer.join()
    assert lacking(service, study.folder) == []
    assert len(lost) == 1
    assert placed.nodes[lost[0]] == ["b", "a"]
    before, after = placed.epochs[lost[0]]
    assert 0 < after[0] <= len(before)  # it went on from its last checkpoint
    assert after[-1] == 4
    told = f"{label(study, lost[0])}: .* has gone\\. It goes on from its last checkpoint\\."
    assert re.search(told, capsys.readouterr().err)
    assert set(study.trials.status) == {"ok"}
    same(study, local)


@pytest.mark.slow
def test_a_study_whose_nodes_share_nothing_but_a_url_has_the_same_predictions(
    local: Study, monkeypatch, tmp_path: Path
):
    """The process of the study is on no node and connects as a client; each node has a cache of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("ABLATE_STORE", f"file://{tmp_path / 'bucket'}")
    placed, caches = Placed(monkeypatch), [tmp_path / "cache a", tmp_path / "cache b"]
    own = [{"env_vars": {"ABLATE_CACHE": str(cache)}} for cache in caches]
    with cluster_of("a", ray_client_server_port=port, **own[0]) as cluster:
        add_node(cluster, "b", **own[1])
        address = f"ray://127.0.0.1:{port}"
        study = Recipe.from_dict(SMALL).run(tmp_path, device="cpu", executor="ray", address=address)
    assert {node for nodes in placed.nodes.values() for node in nodes} == {"a", "b"}
    stored = [{path.name for path in cache.glob("stores/*/[!.]*")} for cache in caches]
    assert stored[0] != stored[1]
    assert stored[0] | stored[1] == set(study.plan["stages"])
    same(study, local)


@pytest.fixture
def long(tmp_path: Path) -> Runs:
    """A study that takes a while."""
    return Runs(tmp_path / "runs", SMALL | {"phases": [{"name": "two", "epochs": 300, "lr": 1e-3}]})


def on(cluster: Cluster) -> list[str]:
    return ["--executor", "ray", "--address", cluster.address, "--device", "cpu", "--wandb", "off"]


@pytest.mark.slow
def test_nothing_goes_on_without_the_process_of_the_study(cluster: Cluster, long: Runs):
    run = long.start(*on(cluster))
    run.until(lambda: long.epochs() > 2 and len(stages()) == 2)
    os.kill(run.process.pid, signal.SIGKILL)
    until(lambda: not stages() and not agents())


@pytest.mark.slow
def test_an_interrupt_stops_the_stages_after_their_epochs_and_a_second_one_at_once(
    cluster: Cluster, long: Runs
):
    run = long.start(*on(cluster))
    run.until(lambda: long.epochs() > 2 and len(stages()) == 2)
    os.kill(run.process.pid, signal.SIGINT)
    assert run.wait() == 130
    assert not stages()
    before = long.epochs()
    run = long.start(*on(cluster))
    run.until(lambda: long.epochs() > before)
    os.kill(run.process.pid, signal.SIGINT)
    os.kill(run.process.pid, signal.SIGINT)
    run.wait()
    until(lambda: not stages())


@pytest.mark.slow
def test_after_the_death_of_the_head_the_same_command_goes_on(local: Study, tmp_path: Path):
    runs = Runs(tmp_path / "runs", SMALL)
    with cluster_of("a", "b") as cluster:
        run = runs.start(*on(cluster))
        run.until(lambda: runs.finished())
        cluster.head_node.kill_all_processes(allow_graceful=False)
        assert run.wait() == 2
    told = "the head of the Ray cluster does not answer any more; when a cluster runs again, the same command"
    assert told in run.stderr
    until(lambda: not stages())
    finished = runs.finished()
    assert finished
    with cluster_of("a", "b") as cluster:
        assert runs.start(*on(cluster)).wait() == 0
    assert finished < runs.finished()
    same(Study.open(runs.study), local)
