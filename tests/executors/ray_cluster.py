"""A Ray cluster of several nodes on this machine, and what happens in it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from real_runs import command_of, processes

_MARK = "CLUSTER_OF_TEST"
"""The variable by which a process knows those of its clusters: other tests have theirs at the same time."""
_NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}


@contextmanager
def cluster_of(*names: str, **head: Any) -> Iterator[Cluster]:
    """A cluster with a node of one CPU for each name: first the head, last one that says it has two GPUs."""
    folder = tempfile.mkdtemp(prefix="ray")  # a socket's name has to be short
    os.environ[_MARK] = str(os.getpid())
    Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes a head, whatever its own folder is
    cluster = Cluster()
    try:
        for name in names:
            own = {"temp_dir": folder, **head} if name == names[0] else {}
            add_node(cluster, name, **own, **({"num_gpus": 2} if name == names[-1] else {}))
        yield cluster
    finally:
        ray.shutdown()
        with suppress(ValueError):  # Ray takes this process for connected after a connection that failed
            cluster.shutdown()
        if cluster.head_node is not None:
            cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        del os.environ[_MARK]


def add_node(cluster: Cluster, name: str, **options: Any) -> Any:
    """One more node of one CPU."""
    before = {key: value for key, value in os.environ.items() if key.startswith("ABLATE_")}
    for key in before:  # nodes are other machines, and know nothing of this one's folders
        del os.environ[key]
    try:
        return cluster.add_node(**_NODE, node_name=name, **options)
    finally:
        os.environ.update(before)


def agents() -> list[int]:
    """The processes of agents."""
    return [pid for pid in _own() if command_of(pid).startswith("ray::Agent")]


def tasks() -> list[int]:
    """The processes of tasks that wait for a stage."""
    return [pid for pid in _own() if "ray::" in command_of(pid) and "Agent" not in command_of(pid)]


def stages() -> list[int]:
    """The processes of stages: children of the fork server of an agent that print into a log."""
    found = []
    for pid in _own():
        with suppress(OSError):
            if "/ablate-logs-" in os.readlink(f"/proc/{pid}/fd/1"):
                found.append(pid)
    return found


def _own() -> Iterator[int]:
    """The processes of clusters that this process has begun, orphans too."""
    mark = f"{_MARK}={os.getpid()}".encode()
    for pid, _, _ in processes():
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid


def until(what: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is true, and give it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "never came"
        time.sleep(0.02)
    return found
