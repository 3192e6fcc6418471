"""The errors that a person is meant to read: one sentence, a place and a next step, never a traceback."""

from __future__ import annotations

from dataclasses import dataclass


class AblateError(Exception):
    """A mistake in a recipe, in data or in a command, told in one clear sentence.

    The command line prints the message to stderr and exits with code 2.
    """


@dataclass(frozen=True)
class Place:
    """Where a value of a recipe was written."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class RecipeError(AblateError):
    """A recipe that cannot be used, with every problem on a line of its own, each led by file and line."""


class StageFailed(AblateError):
    """A stage that ended with an error; the message says which, why, and where its log lies."""
