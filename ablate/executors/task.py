"""The Ray task of one stage: it holds the stage's resources while the agent of its node runs the job.

It waits for the end on a socket: in `ray.get` it would give its CPU back to Ray, which would begin another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Client, Connection

from ablate.study.job import Job

_DEVICES = ("CUDA_", "HIP_", "ROCR_", "TPU_", "ZE_", "ONEAPI_")
"""How the variables begin by which Ray tells a task its devices."""


@dataclass(frozen=True)
class Crew:
    """The agents of one study.

    Args:
        run: A random name for them.
        key: What a task has to know to talk to one.
        device: What the jobs run on.
        python: The version that the study is run with.
        environment: Variables that nodes have which do not have their own.
    """

    run: str
    key: bytes
    device: str
    python: str
    environment: Mapping[str, str]

    def address(self, node: str) -> str:
        """The socket of a node's agent, in Linux's namespace without files: nothing is left of it."""
        return f"\0ablate-{self.run}-{node}"


def run_stage(crew: Crew, number: int, job: Job) -> str:
    """The task of one stage: hold its resources while the agent of the node runs its job.

    Returns:
        The id of the node.

    Raises:
        EOFError: The agent has gone.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    given = {name: value for name, value in os.environ.items() if name.startswith(_DEVICES)}
    with _agent(crew, node) as connection:
        connection.send((number, replace(job, environment=given | job.environment)))
        connection.recv()
    return str(node)


def _agent(crew: Crew, node: str) -> Connection:
    """A connection to the agent of a node, once there is one: it may be looking at the data yet."""
    while True:
        try:
            return Client(crew.address(node), "AF_UNIX", authkey=crew.key)
        except (ConnectionError, FileNotFoundError, EOFError):
            time.sleep(0.05)
