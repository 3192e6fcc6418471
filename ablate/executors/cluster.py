"""The Ray cluster that this process is connected to, and how much runs on it at once."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import ablate
from ablate.errors import AblateError

_PATIENCE = 20.0
"""Seconds in which a cluster has to answer."""
_STARTING = 60.0
"""Seconds in which one has to begin: one of this process's own, or the server of a client."""
_SHORT = {"num_cpus": "CPU", "num_gpus": "GPU"}


@dataclass(frozen=True)
class Node:
    """A machine of a cluster that is alive.

    Args:
        id: Ray's.
        name: For people.
        resources: All that it has, by Ray's names: CPU, GPU, TPU, ….
    """

    id: str
    name: str
    resources: Mapping[str, float]

    def room(self, asked: Mapping[str, float]) -> int:
        """How many jobs that ask for some resources fit on the node at once; 0 if they ask for none."""
        fitting = (math.floor(self.resources.get(name, 0.0) / value) for name, value in asked.items())
        return min(fitting, default=0)


def named_as_ray_does(resources: Mapping[str, float]) -> dict[str, float]:
    """Resources by Ray's own names, where those of its options are known too: `num_cpus` is CPU.

    Raises:
        AblateError: A number is not above zero.
    """
    named = {_SHORT.get(name, name): float(value) for name, value in resources.items()}
    for name, value in named.items():
        if not value > 0:
            raise AblateError(f"resource {name}: is {value:g} and has to be more than 0; leave it out.")
    return named


def options_for(asked: Mapping[str, float]) -> dict[str, Any]:
    """The options of a Ray task that holds some resources."""
    own = {name: value for name, value in asked.items() if name not in ("CPU", "GPU", "memory")}
    return {
        "num_cpus": asked.get("CPU", 0),
        "num_gpus": asked.get("GPU", 0),
        "memory": asked.get("memory"),
        "resources": own or None,
    }


def require_room(nodes: Iterable[Node], asked: Mapping[str, float]) -> None:
    """Refuse what would wait for ever.

    Raises:
        AblateError: No node has these resources.
    """
    nodes = list(nodes)
    if not any(node.room(asked) for node in nodes):
        there = "; ".join(f"{node.name}: {_told(node.resources)}" for node in nodes) or "there is no node"
        raise AblateError(
            f"resources: a stage takes {_told(asked)}, which no node of the Ray cluster has ({there}); start "
            "such a node, or ask for less with --resource."
        )


def _told(resources: Mapping[str, float]) -> str:
    hidden = ("memory", "object_store_memory", "node:", "accelerator")
    shown = {name: value for name, value in sorted(resources.items()) if not name.startswith(hidden)}
    return ", ".join(f"{value:g} {name}" for name, value in shown.items()) or "nothing"


def nodes() -> list[Node]:
    """The nodes that are alive, by name."""
    import ray

    alive = (node for node in ray.nodes() if node["Alive"])
    found = [Node(node["NodeID"], _name(node), node.get("Resources", {})) for node in alive]
    return sorted(found, key=lambda node: (node.name, node.id))


def _name(node: Mapping[str, Any]) -> str:
    """What a node was called when it was started, else its host's name."""
    given, address = node.get("NodeName", ""), node["NodeManagerAddress"]
    return str(given if given and given != address else node.get("NodeManagerHostname") or address)


def connect(address: str | None) -> None:
    """Connect to a Ray cluster, and have it give this process's ablate to all its workers.

    Args:
        address: `auto` for one that runs on this machine, `host:port`, `ray://host:port`; None for the
            cluster of `RAY_ADDRESS`, else for one of this process's own.

    Raises:
        AblateError: Ray is not installed, is used already, does not answer, or has other versions.
    """
    try:
        import ray
    except ImportError:
        raise AblateError("executor: ray is not installed; pip install 'ablate[ray]'.") from None
    if ray.is_initialized():
        raise AblateError(
            "executor: this process is connected to Ray already; call ray.shutdown() first, so that the "
            "workers get this ablate."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that this process starts
    place = address or os.environ.get("RAY_ADDRESS") or None
    if not answers(place):
        raise _silent(place)
    outcome: Queue[Exception | None] = Queue()
    # not in the main thread: it might wait for minutes, and would take over what SIGTERM means
    threading.Thread(target=_initialise, args=(place, outcome), daemon=True).start()
    try:
        error = outcome.get(timeout=_STARTING if place is None or place.startswith("ray://") else _PATIENCE)
    except Empty:
        raise _silent(place) from None
    if error is not None:
        raise AblateError(_explained(place, error)) from None


def _initialise(place: str | None, outcome: Queue[Exception | None]) -> None:
    import ray

    try:
        ray.init(
            address=place or "local",  # with None, Ray would look for others' clusters, dead ones too
            runtime_env={"py_modules": [str(Path(ablate.__file__).parent)], "excludes": ["__pycache__"]},
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if place is None else None,
        )
    except Exception as error:
        outcome.put(error)
        with contextlib.suppress(Exception):  # of what is half connected
            ray.shutdown()
        return
    outcome.put(None)
    # a cluster of this process's own ends with the thread that has begun it: so Linux understands "parent"
    threading.Event().wait()


def answers(place: str | None) -> bool:
    """Whether something listens at a `host:port`, with or without `ray://`; yes for any other address."""
    host, _, port = (place or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), 10).close()
    except OSError:
        return False
    return True


def head(address: str | None) -> str:
    """Where the head of the cluster listens that this process has connected to by some address."""
    import ray

    if address and address.startswith("ray://"):
        return address
    return str(ray.get_runtime_context().gcs_address)


def _silent(place: str | None) -> AblateError:
    return AblateError(
        f"address: no Ray cluster answers at {place or 'this machine'}; look with `ray status` whether it "
        "runs, and whether a firewall lies between."
    )


def _explained(place: str | None, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "ersions mismatch" in text:
        return f"address: {place}: {text[:400].rstrip('.')}; install the same Python and Ray on all machines."
    if place == "auto" and isinstance(error, ConnectionError):
        return "address: no Ray cluster runs on this machine; begin one with `ray start --head`."
    text = text[:300].rstrip(".") or type(error).__name__
    return f"address: {place or 'a local Ray'}: cannot be used ({text})."
