"""reseed: other random numbers and nothing else. The control that should show no effect."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ablate.techniques.base import Technique


class Reseed(Technique):
    """Salt every random stream: initial weights, order, augmentation, mixing, dropout.

    An A/A comparison: whatever it seems to help or hurt is noise, so a study that varies it shows how far to
    trust the other rows.
    """

    name: ClassVar[str] = "reseed"
    paper: ClassVar[str] = "Summers & Dinneen 2021, arXiv 2103.04514"
    structural: ClassVar[frozenset[str]] = frozenset({"salt"})

    salt: str = Field("reseed", min_length=1, description="The text that goes into every stream's name.")

    def stream_salt(self) -> str:
        return self.salt
