"""What every place where jobs run has in common: a job is started, waited for, and told how it has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.study.graph import FoldData
from ablate.study.job import Job

Report = Callable[[dict[str, Any]], None]
"""Told what a job has done: `{"started": where}` when it begins to run, then what its stage reports."""


@dataclass(frozen=True)
class Needs:
    """What must be the same wherever jobs of a study run.

    Args:
        recipe: The values of the recipe, as `Recipe.from_dict` takes them.
        quick: Whether the study takes only a sample of the images.
        presizes: The shorter side and the JPEG quality of the images that are kept in the cache.
        identities: Of the folds' data.
        versions: Of the packages that a result depends on.
        store: The place of the stage store: a folder, or an fsspec URL.
    """

    recipe: Mapping[str, Any]
    quick: bool
    presizes: tuple[tuple[int, int | None], ...]
    identities: tuple[FoldData, ...]
    versions: Mapping[str, str]
    store: str


class Started(ABC):
    """A job on its way."""

    def __init__(self, job: Job):
        self.job = job

    @abstractmethod
    def stop(self) -> None:
        """Ask it to stop after its epoch."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, and return when it has ended."""

    @abstractmethod
    def result(self) -> None:
        """Return if the job has ended well; to be asked once `Executor.wait` has given it.

        Raises:
            AblateError: The recipe or the data cannot work, in one sentence.
            Damaged: A stage before it is.
            StageFailed: It ended with an error or was killed; the message says where its log lies.
            StageLost: Where it ran has gone.
            StageStopped: It was asked to stop and did.
        """


class Executor(ABC):
    """Where jobs run."""

    device: str
    """What they run on."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many jobs to give it at once; may change."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """Torch threads of a job, where the user does not say."""

    def warm_up(self) -> None:  # noqa: B027 - many have nothing to do
        """Begin with what takes time before the first job, beside whatever comes before that."""

    def require(self, needs: Needs) -> None:  # noqa: B027
        """Have every place where jobs will run fulfil these needs.

        Raises:
            AblateError: One of them cannot.
        """

    @abstractmethod
    def start(self, job: Job, report: Report) -> Started:
        """Begin to run a job, or to wait for room for it."""

    @abstractmethod
    def wait(self, started: Sequence[Started], timeout: float) -> list[Started]:
        """Pass on what jobs report, until one has ended or for so many seconds; gives what has ended."""

    def close(self) -> None:  # noqa: B027
        """Let go of everything; nothing is running any more."""

    def run(self, job: Job, report: Report, stopping: Callable[[], bool] = lambda: False) -> None:
        """Run one job to its end; errors as of `Started.result`.

        Args:
            job: What to do.
            report: Told of its progress.
            stopping: Asked now and then whether the job should stop after its epoch.
        """
        started, asked = self.start(job, report), False
        try:
            while not self.wait([started], 0.2):
                if not asked and stopping():
                    asked = True
                    started.stop()
        except BaseException:  # a second Ctrl-C above all: what the job was doing is not wanted any more
            started.kill()
            raise
        started.result()
