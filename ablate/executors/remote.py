"""The agents and the jobs of a Ray cluster, as the process of the study holds them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, StageLost
from ablate.executors.agent import Agent, Told
from ablate.executors.base import Needs, Report, Started
from ablate.executors.cluster import Node, options_for
from ablate.executors.fitness import Token
from ablate.executors.local import raise_outcome
from ablate.executors.task import Crew
from ablate.study.job import Job

_POLL = 1.0
"""Seconds for which an agent waits for something to report."""


class RemoteAgent:
    """A node's agent, from afar.

    Args:
        crew: What it belongs to.
        node: Where it is.
    """

    def __init__(self, crew: Crew, node: Node):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        actor: Any = ray.remote(Agent)  # whose methods have a `remote` that Agent's own do not have
        options = {"num_cpus": 0, "max_concurrency": 64, "scheduling_strategy": there}
        self.node, self.actor = node, actor.options(**options).remote(crew, node.id, node.name)
        self.poll = self.actor.reports.remote(_POLL)
        self._begun: Any = None

    def begin(self, needs: Needs | None, token: Token | None) -> None:
        """Have it take jobs, once its node fulfils the needs."""
        self._begun = self.actor.begin.remote(needs, token)

    def check(self) -> None:
        """Wait until it takes jobs.

        Raises:
            AblateError: Its node does not fulfil the needs, or it could not be started.
        """
        import ray
        from ray.exceptions import RayError

        try:
            unfit = ray.get(self._begun)
        except RayError as error:
            cause = " ".join(str(error).split())[-300:]
            raise AblateError(
                f"node {self.node.name}: no stage can be run there ({type(error).__name__}: {cause}); "
                "install ablate and what it needs there."
            ) from None
        if unfit:
            raise AblateError(f"node {self.node.name}: {unfit}")

    def heard(self) -> Told | None:
        """What it has told, once `poll` is there; None if it has gone."""
        import ray
        from ray.exceptions import RayError

        try:
            told: Told = ray.get(self.poll)
        except RayError:
            return None
        self.poll = self.actor.reports.remote(_POLL)
        return told

    def kill(self) -> None:
        """End it, if it has not gone."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self.actor)


class RemoteJob(Started):
    """A job, the task that holds its resources, and the agent that runs it.

    Args:
        job: The job.
        report: Told of its progress.
        logs: The folder for what it prints.
        end_everywhere: Makes sure that no node runs it any more.
    """

    def __init__(self, job: Job, report: Report, logs: Path, end_everywhere: Callable[[RemoteJob], None]):
        super().__init__(job)
        self.report, self.log, self._end_everywhere = report, logs / f"{job.key}.log", end_everywhere
        self.number, self.asked = 0, False
        self.node: str | None = None
        """Where it is, or is meant to be."""
        self.task: Any = None
        self.agent: RemoteAgent | None = None
        self._outcome: dict[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is known how it has ended."""
        return self._outcome is not None

    def submit(
        self, task: Any, crew: Crew, number: int, asked: Mapping[str, float], node: str | None
    ) -> None:
        """Have Ray find a node for it.

        Args:
            task: `run_stage`, as Ray knows it.
            crew: The agents.
            number: By which they know it.
            asked: The resources that it takes.
            node: Where there is room; Ray takes another one if there is none any more.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.number, self.node = number, node
        # it becomes the name of a process, which the system cuts off at a byte, not at a character
        name = self.job.label.encode("ascii", "ignore").decode()
        options = {**options_for(asked), "max_retries": 0, "name": name}
        if node is not None:  # else a quick node takes all, before Ray has heard that others are free again
            there = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
            options["scheduling_strategy"] = there
        self.task = task.options(**options).remote(crew, number, self.job)

    def begin(self, agent: RemoteAgent) -> None:
        """An agent runs it."""
        self.agent, self.node = agent, agent.node.id
        if self.asked:
            self.stop()

    def stop(self) -> None:
        self.asked = True
        if self.agent is not None:
            self.agent.actor.stop.remote(self.number)
        else:
            self.cancel(force=False)

    def kill(self) -> None:
        self.cancel()
        self._end_everywhere(self)
        self.end({"lost": "was ended"})

    def cancel(self, force: bool = True) -> None:
        """Have its task not run, or end."""
        import ray

        if self.task is not None:
            with contextlib.suppress(Exception):  # it may have ended
                ray.cancel(self.task, force=force)

    def end(self, outcome: dict[str, Any]) -> None:
        """It has ended; keep what it has printed."""
        self._outcome = outcome
        if outcome.get("log"):
            with contextlib.suppress(OSError):  # the end of a stage is worth more than its log
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self.log.write_text(outcome["log"])

    def result(self) -> None:
        assert self._outcome is not None
        if "lost" in self._outcome:
            raise StageLost(f"{self.job.label}: {self._outcome['lost']}.")
        raise_outcome(self._outcome, self.job, self.log)


def why_lost(error: Exception) -> str:
    """What Ray's error about a task says, in words for people."""
    from ray import exceptions

    if isinstance(error, exceptions.RayTaskError):
        gone = isinstance(error.cause, EOFError | ConnectionError)
        return "the agent of its node has gone" if gone else f"its worker cannot run it ({error.cause})"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "Ray ended its worker because the node ran out of memory"
    return "its node has gone" if isinstance(error, exceptions.NodeDiedError) else "its worker has gone"
