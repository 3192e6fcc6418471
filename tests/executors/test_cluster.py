"""Connecting to a Ray cluster and what is in the way of that; how much fits on a node."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray_cluster import cluster_of

from ablate.errors import AblateError
from ablate.executors.cluster import Node, connect, named_as_ray_does, options_for, require_room
from ablate.executors.ray import RayExecutor


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A cluster of one node with two GPUs, so it says, and two CPUs."""
    with cluster_of("head") as cluster:
        yield cluster


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_told_at_once(scheme: str):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(AblateError) as caught:
        connect(address)
    assert time.monotonic() - began < 5
    assert str(caught.value) == (
        f"address: no Ray cluster answers at {address}; look with `ray status` whether it runs, and whether "
        "a firewall lies between."
    )


def test_an_address_where_something_else_listens_is_given_up_in_time():
    """In a process of its own, since Ray goes on trying beside it."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"ray://127.0.0.1:{mute.getsockname()[1]}"
        code = (
            "from ablate.errors import AblateError\nfrom ablate.executors import cluster\n"
            f"cluster._STARTING = 1.0\ntry:\n    cluster.connect('{address}')\n"
            "except AblateError as error:\n    print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.startswith(f"address: no Ray cluster answers at {address}; look with `ray status`")


def test_a_cluster_of_ones_own_goes_on_after_it_has_been_begun():
    """Linux ends the processes of a cluster with the thread that has started them."""
    code = (
        "import time, ray\nfrom ablate.executors import cluster\ncluster.connect(None)\ntime.sleep(2)\n"
        "print(ray.get(ray.remote(num_cpus=0)(lambda: 'runs').remote(), timeout=60))\nray.shutdown()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout == "runs\n", done.stderr


def test_what_is_no_address_is_one_sentence():
    with pytest.raises(
        AblateError, match=r"^address: nonsense: cannot be used \(Invalid address format: nonsense\)\.$"
    ):
        connect("nonsense")


def test_auto_without_a_cluster_says_how_to_begin_one(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(
        AblateError, match=r"^address: no Ray cluster runs on this machine; begin one with `ray start --head`"
    ):
        connect("auto")


def test_ray_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    real = builtins.__import__

    def without_ray(name: str, *args, **kwargs):
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "ray")
    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(AblateError, match=r"^executor: ray is not installed; pip install 'ablate\[ray\]'\.$"):
        connect(None)


def test_another_version_of_ray_is_one_sentence(head: Cluster, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with pytest.raises(
        AblateError, match=r"^address: .*Version mismatch.*; install the same Python and Ray on all"
    ):
        connect(head.address)


def test_a_cluster_is_used_until_it_is_closed_and_a_process_has_one(head: Cluster, tmp_path: Path):
    executor = RayExecutor(tmp_path, "auto", head.address)
    assert executor.device == "cuda"  # by what the node says of itself
    assert (executor.threads, executor.slots) == (1, 2)
    with pytest.raises(AblateError, match=r"connected to Ray already; call ray\.shutdown\(\) first"):
        connect(head.address)
    executor.close()
    assert not ray.is_initialized()


def test_options_are_as_good_as_rays_own_names():
    asked = named_as_ray_does({"num_cpus": 2, "num_gpus": 0.5, "TPU": 4})
    assert asked == {"CPU": 2, "GPU": 0.5, "TPU": 4}
    assert options_for(asked) == {"num_cpus": 2, "num_gpus": 0.5, "memory": None, "resources": {"TPU": 4}}
    assert options_for({"CPU": 1}) == {"num_cpus": 1, "num_gpus": 0, "memory": None, "resources": None}


def test_a_resource_has_to_be_more_than_nothing():
    with pytest.raises(AblateError, match=r"^resource GPU: is 0 and has to be more than 0; leave it out\."):
        named_as_ray_does({"num_gpus": 0})


def test_as_many_jobs_fit_on_a_node_as_the_scarcest_resource_allows():
    node = Node("id", "box", {"CPU": 8, "GPU": 2, "memory": 1e9})
    assert node.room({"CPU": 3}) == 2
    assert node.room({"CPU": 1, "GPU": 0.5}) == 4
    assert node.room({"CPU": 1, "TPU": 1}) == 0
    assert node.room({}) == 0


@pytest.mark.parametrize(
    ("device", "nodes", "threads", "slots"),
    [
        ("cpu", [{"CPU": 8}, {"CPU": 4}], 4, 2 * (2 + 1)),
        ("auto", [{"CPU": 8, "GPU": 2}, {"CPU": 16}], 4, 2 * 2),
        ("cuda", [{"CPU": 8, "GPU": 2}, {"CPU": 2, "GPU": 1}], 2, 2 * 3),
        ("auto", [{"CPU": 100, "TPU": 4}, {"CPU": 100, "TPU": 8}], 50, 2 * (1 + 2)),
        ("xla", [{"CPU": 4}], 4, 2),
    ],
)
def test_what_a_stage_takes_hangs_on_the_device(
    monkeypatch, device: str, nodes: list[dict[str, float]], threads: int, slots: int
):
    """The CPU's threads are those of the smallest node; others share a node's CPUs by its accelerators."""
    found = [Node(str(number), f"node {number}", own) for number, own in enumerate(nodes)]
    monkeypatch.setattr("ablate.executors.ray.connect", lambda address: None)
    monkeypatch.setattr("ablate.executors.ray.nodes", lambda: found)
    executor = RayExecutor(Path("logs"), device)
    assert (executor.threads, executor.slots) == (threads, slots)
    asked = RayExecutor(Path("logs"), device, resources={"num_cpus": 2})
    assert asked.threads == 2


def test_what_no_node_has_is_refused_with_what_the_nodes_have():
    boxes = [
        Node("1", "one", {"CPU": 8, "memory": 1e9, "node:1.2.3.4": 1}),
        Node("2", "two", {"CPU": 4, "GPU": 1}),
    ]
    require_room(boxes, {"CPU": 8})
    require_room(boxes, {"GPU": 1, "CPU": 4})
    with pytest.raises(AblateError) as caught:
        require_room(boxes, {"GPU": 1, "CPU": 8})
    assert str(caught.value) == (
        "resources: a stage takes 8 CPU, 1 GPU, which no node of the Ray cluster has (one: 8 CPU; "
        "two: 4 CPU, 1 GPU); start such a node, or ask for less with --resource."
    )
