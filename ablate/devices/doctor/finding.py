"""What the doctor tells of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        group: `device`, `package` or `folder`.
        name: Which one.
        level: `ok`, `note` (worth knowing) or `problem`.
        text: What was found.
        mend: What to do about it, with the command; empty where there is nothing to do.
    """

    group: str
    name: str
    level: Literal["ok", "note", "problem"]
    text: str
    mend: str = ""
