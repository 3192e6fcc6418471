"""Run jobs on a Ray cluster: a task each, which holds its resources on whatever node Ray finds for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.data.remote import is_url
from ablate.errors import AblateError
from ablate.executors.base import Executor, Needs, Report, Started
from ablate.executors.cluster import Node, answers, connect, head, named_as_ray_does, nodes, require_room
from ablate.executors.fitness import Token
from ablate.executors.remote import RemoteAgent, RemoteJob, why_lost
from ablate.executors.task import Crew, run_stage
from ablate.study.job import Job

_LOOK = 2.0
"""Seconds between looks at which nodes there are."""
_HEADLESS = 20.0
"""Seconds without the cluster's head, which may begin anew, before it is given up."""
_ENDING = 30.0
"""Seconds in which a job that is killed has to end."""
_DECIDING = ("ABLATE_", "ATEN_", "CUBLAS_", "MKL_", "OMP_", "PJRT_", "XLA_", "NVIDIA_TF32_")
"""How the variables begin that nodes without their own take from this process: what results may hang on."""


class RayExecutor(Executor):
    """Ray tasks, and an agent with a fork server on every node.

    Args:
        logs: The folder for what the processes print, one file per job.
        device: What the jobs run on; auto is what the cluster has.
        address: Of the cluster; see `ablate.executors.cluster.connect`.
        resources: What each job takes of a node, instead of what it takes by itself: an accelerator and a
            CPU, or as many CPUs as it has threads.

    Raises:
        AblateError: A resource cannot be asked for.
    """

    def __init__(
        self,
        logs: Path,
        device: str = "auto",
        address: str | None = None,
        resources: Mapping[str, float] | None = None,
    ):
        self.logs, self._device, self._address = logs, device, address
        self._resources = named_as_ray_does(resources or {})
        self._connected, self._begun = False, False
        self._needs: Needs | None = None
        self._token: Token | None = None
        self._looked, self._heard, self._nodes = 0.0, 0.0, list[Node]()
        self._asked: dict[str, float] | None = None
        self._numbers = itertools.count(1)
        self._running: dict[int, RemoteJob] = {}
        self._agents: dict[str, RemoteAgent] = {}
        self._unfit: set[str] = set()
        """The nodes that cannot run stages."""

    @cached_property
    def device(self) -> str:  # type: ignore[override]
        if self._device != "auto":
            return self._device
        there = {name for node in self.nodes for name in node.resources}
        return "cuda" if "GPU" in there else "xla" if "TPU" in there else "cpu"

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are alive, looked for every few seconds while jobs run."""
        if not self._connected:
            connect(self._address)
            self._connected, self._nodes, self._heard = True, nodes(), time.monotonic()
            self._head = head(self._address or os.environ.get("RAY_ADDRESS"))
        return self._nodes

    @property
    def slots(self) -> int:
        """Twice what runs at once, so that no worker waits for us and a cluster that can grow sees why to."""
        asked = self._asked or self._asks(self.threads)
        return max(2, 2 * sum(node.room(asked) for node in self.nodes if node.id not in self._unfit))

    @property
    def threads(self) -> int:
        """The CPUs of a job on the node that has the fewest: the same everywhere, as results hang on it."""
        if "CPU" in self._resources:
            return max(int(self._resources["CPU"]), 1)
        accelerators = {name: value for name, value in self._asks(1).items() if name != "CPU"}
        shares = [node.resources.get("CPU", 1) // max(node.room(accelerators), 1) for node in self._places]
        return max(int(min(shares, default=1)), 1)

    @property
    def _places(self) -> list[Node]:
        """The nodes on which a job can run, if it takes no more than one thread."""
        asked = self._asks(1)
        return [node for node in self.nodes if node.room(asked)]

    def _asks(self, threads: int, devices: int = 1) -> dict[str, float]:
        """What a job takes of a node: its accelerators, else a CPU for each thread of each process."""
        own = {"CPU": float(threads * devices)}
        chips = [node.resources["TPU"] for node in self.nodes if "TPU" in node.resources]
        if self.device == "cuda":
            own = {"CPU": float(devices), "GPU": float(devices)}
        elif self.device == "xla" and chips:  # a stage uses all of a host
            own = {"CPU": 1.0, "TPU": min(chips)}
        return own | self._resources

    def warm_up(self) -> None:
        self._look()

    def require(self, needs: Needs) -> None:
        if self._begun and needs == self._needs:
            return
        require_room(self.nodes, self._asks(1))
        self._needs, self._token = needs, None
        if not is_url(needs.store):
            self._token = Token(Path(needs.store) / ".work" / f".ray-{self._crew.run}", self._crew.run)
            self._token.write()
        self._begin()
        for agent in [*self._agents.values()]:
            agent.check()

    def start(self, job: Job, report: Report) -> Started:
        asked = self._asks(job.threads, job.devices)
        if asked != self._asked:
            require_room(self.nodes, asked)
            self._asked = asked
        if not self._begun:
            self._begin()
        return self._submit(RemoteJob(job, report, self.logs, self.end_everywhere))

    def wait(self, started: Sequence[Started], timeout: float) -> list[Started]:
        end = time.monotonic() + timeout
        while True:
            self._look()
            polls = {agent.poll: agent for agent in self._agents.values()}
            tasks = {one.task: one for one in self._running.values() if one.task is not None}
            ended: list[Started] = [job for job in started if isinstance(job, RemoteJob) and job.has_ended]
            left = 0.0 if ended else max(end - time.monotonic(), 0.0)
            heard = self._ready([*polls, *tasks], left)
            for ref in heard & polls.keys():  # first: they tell how a task has ended
                self._hear(polls[ref])
            for ref in heard & tasks.keys():
                self._let_go(tasks[ref])
            if ended or not left:
                return ended

    def close(self) -> None:
        import ray

        if self._token is not None:
            self._token.remove()
        if self._connected:
            with contextlib.suppress(Exception):  # the cluster may have gone
                ray.get([agent.actor.close.remote() for agent in self._agents.values()], timeout=10)
            ray.shutdown()
            self._connected = False

    @cached_property
    def _crew(self) -> Crew:
        deciding = {name: value for name, value in os.environ.items() if name.startswith(_DECIDING)}
        version = platform.python_version()
        return Crew(secrets.token_hex(8), secrets.token_bytes(32), self.device, version, deciding)

    @cached_property
    def _task(self) -> Any:
        """Sent to the cluster once: every time would take longer, and has to wait where the head has gone."""
        import ray

        return ray.remote(run_stage)

    def _ready(self, refs: list[Any], seconds: float) -> set[Any]:
        """Those of some results that are there, or the first one that comes in so many seconds."""
        import ray

        if not refs:
            time.sleep(min(seconds, 0.1))
            return set()
        first, _ = ray.wait(refs, timeout=seconds)
        return {*ray.wait(refs, num_returns=len(refs), timeout=0)[0]} if first else set()

    def _look(self) -> None:
        """Have an agent on every node where jobs can run, and give up those whose nodes have gone."""
        now = time.monotonic()
        if self._connected:
            if now - self._looked < _LOOK:
                return
            if not answers(self._head):  # before Ray is asked, which would wait for it
                self._looked = now
                if now - self._heard > _HEADLESS:
                    self._give_up()
                return
            self._nodes = nodes()
        self._looked = self._heard = now
        places = {node.id: node for node in self._places}
        for gone in self._agents.keys() - places.keys():
            self._lose(gone)
        for node in places.values():
            if node.id not in self._agents:
                self._agents[node.id] = RemoteAgent(self._crew, node)
                if self._begun:
                    self._agents[node.id].begin(self._needs, self._token)

    def _give_up(self) -> None:
        """Leave a cluster that has lost its head; its stages end by themselves."""
        self._connected = False  # nothing that Ray is asked would come back
        self._agents.clear()
        for job in [*self._running.values()]:
            job.task = None
            self._end(job, {"lost": "the cluster has gone"})
        raise AblateError(
            "address: the head of the Ray cluster does not answer any more; when a cluster runs again, the "
            "same command goes on from the last finished epochs."
        )

    def _begin(self) -> None:
        self._look()
        for agent in self._agents.values():
            agent.begin(self._needs, self._token)
        self._begun = True

    def _submit(self, job: RemoteJob) -> RemoteJob:
        number = next(self._numbers)
        asked = self._asks(job.job.threads, job.job.devices)
        job.submit(self._task, self._crew, number, asked, self._idle_node(asked))
        self._running[number] = job
        return job

    def _idle_node(self, asked: Mapping[str, float]) -> str | None:
        """The node that has the most room left, as far as it is known here; Ray itself learns of it later."""
        held = Counter(job.node for job in self._running.values())
        left = {
            node.id: node.room(asked) - held[node.id] for node in self.nodes if node.id not in self._unfit
        }
        most = max(left, key=left.__getitem__, default=None)
        return most if most is not None and left[most] > 0 else None

    def _hear(self, agent: RemoteAgent) -> None:
        """Take in what the jobs of a node report."""
        told = agent.heard()
        if told is None:
            self._lose(agent.node.id)
            return
        for number, message in told:
            job = self._running.get(number)
            if job is not None:
                self._take(job, message, agent)
            elif not number and self._running:  # from the node itself
                next(iter(self._running.values())).report(message)

    def _take(self, job: RemoteJob, message: dict[str, Any], agent: RemoteAgent) -> None:
        if "ended" in message:
            self._end(job, message["ended"])
        elif "unfit" in message:
            job.report({"note": f"{message['unfit']} No stage is run there."})
            self._unfit.add(agent.node.id)
            del self._running[job.number]
            self._submit(job)  # the first task stays there, so that Ray has no room for another
        else:
            if "started" in message:
                job.begin(agent)
            job.report(message)

    def _let_go(self, job: RemoteJob) -> None:
        """Look how a task has ended; how its job has, its agent tells, if it still can."""
        import ray
        from ray.exceptions import RayError, TaskCancelledError

        task, job.task = job.task, None
        try:
            if ray.get(task) not in self._agents:
                self._end(job, {"lost": "the agent of its node has gone"})
        except RayError as error:
            self.end_everywhere(job)
            if job.asked and isinstance(error, TaskCancelledError):
                self._end(job, {"stopped": f"{job.job.label}: stopped before it began."})
            else:
                self._end(job, {"lost": why_lost(error)})

    def _lose(self, node: str) -> None:
        """Give up an agent that has gone, and what it ran."""
        agent = self._agents.pop(node)
        agent.kill()
        for job in [*self._running.values()]:
            if job.agent is agent:
                job.cancel()
                self._end(job, {"lost": f"node {agent.node.name} has gone"})

    def _end(self, job: RemoteJob, outcome: dict[str, Any]) -> None:
        self._running.pop(job.number, None)
        job.end(outcome)

    def end_everywhere(self, job: RemoteJob) -> None:
        """Make sure that no node is running a job any more, nor will."""
        import ray

        self._running.pop(job.number, None)
        ending = [agent.actor.kill.remote(job.number) for agent in self._agents.values()]
        with contextlib.suppress(Exception):  # what has gone does not run it either
            ray.wait(ending, num_returns=len(ending), timeout=_ENDING)
