"""The base class of all techniques, and what their hooks are given.

A technique is a small validated options class. It overrides the hooks that it needs, and which hooks it
overrides,
and in which phases it is active, is all that the planner has to know about it. A technique's module imports
without torch; its hooks import what they need inside.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ablate.errors import AblateError
from ablate.recipe.schema import Phase
from ablate.sealed import checksum
from ablate.streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_HOOKS = (
    "item_transforms",
    "batch_transforms",
    "sampler",
    "loss",
    "optimizer",
    "schedule",
    "rates",
    "callbacks",
    "metrics",
)
SURGERY_HOOKS = ("network", "model", "splitter")
"""These hold for all phases, whichever the technique is active in."""


@dataclass(frozen=True)
class Context:
    """What a hook may know about the stage that it is part of."""

    phase: Phase
    n_classes: int
    streams: Streams
    on: Mapping[str, Technique]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    train_targets: np.ndarray = field(repr=False)
    classes: Sequence[str] = ()
    n_tabular: int = 0
    """The width of the tabular input; 0 without one."""
    device: str = "cpu"
    """Its name, as `ablate.devices` has it."""

    @property
    def size(self) -> int:
        """The side of the images, in pixels; `Plan` has resolved it for every phase."""
        assert self.phase.size is not None
        return self.phase.size


@dataclass(frozen=True)
class View:
    """One way to look at the items that are predicted: plainly, or under transforms.

    Args:
        transforms: Item transforms that join in; empty for the plain centre crop.
        copy: The number of the augmented copy, from 1: its random draws are its own; 0 is the plain view.
        batch_statistics: Whether batch norm goes by the batch that is looked at, not by its running averages.
    """

    transforms: tuple[Any, ...] = ()
    copy: int = 0
    batch_statistics: bool = False


Predictor = Callable[[View], "Tensor"]
Schedule = Callable[[float], float]
"""From the position in a phase, in epochs, to the rate as a share of the peak rate."""


class Technique(BaseModel):
    """One trick that can be on or off. Subclasses set `name` and override the hooks that they need.

    `version` is raised when the technique's numbers change: it is part of the identity of every stage that
    the technique takes part in. `order` places it among others where more than one acts on the same thing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    order: ClassVar[int] = 50
    reads_table: ClassVar[bool] = False
    """Whether the network that it makes takes the columns of `data.tabular` as a second input."""
    structural: ClassVar[frozenset[str]] = frozenset()
    """Options whose whole effect is on the list of phases or on where the technique is active."""
    quick: ClassVar[Mapping[str, Any]] = {}
    """Options as a quick study sets them, which has one epoch a phase."""
    replaces_loss: ClassVar[bool] = False
    """Whether `loss` puts another loss in the place of the one that it is given."""
    exclusive: ClassVar[str] = ""
    """What else it does that one technique of a phase may do alone: `average the weights`."""

    def active_in(self, phase: str) -> bool:
        """Whether the technique does anything in a phase."""
        return True

    def phase_names(self) -> list[str]:
        """The phases that the options name, which must exist."""
        return []

    def stream_salt(self) -> str:
        """Text that changes every random stream."""
        return ""

    def edit_phases(self, phases: list[Phase]) -> list[Phase]:
        """Change, add or remove phases: sizes, epochs, rates."""
        return phases

    def item_transforms(self, context: Context) -> list[Any]:
        """Crops, geometries, colours, painters (`ablate.data.draws`) or fastai transforms of each image."""
        return []

    def batch_transforms(self, context: Context) -> list[Any]:
        """fastai transforms for each batch on the device, in training and in prediction."""
        return []

    def sampler(self, context: Context, epoch: int) -> np.ndarray | None:
        """The positions of the training items that one epoch visits, in order; None for all, shuffled."""
        return None

    def network(self, context: Context) -> dict[str, Any]:
        """Further arguments of `timm.create_model`; they hold for all phases and for prediction."""
        return {}

    def model(self, model: Any, context: Context) -> Any:
        """Change the network; holds for all phases and for prediction."""
        return model

    def splitter(self, splitter: Any, context: Context) -> Any:
        """Replace how parameters are grouped, first layers first and the head last; holds for all phases."""
        return splitter

    def loss(self, loss: Any, context: Context) -> Any:
        """Wrap or replace the loss."""
        return loss

    def optimizer(self, optimizer: Any, context: Context) -> Any:
        """Wrap or replace the optimizer function."""
        return optimizer

    def schedule(self, context: Context) -> Schedule | None:
        """How the rates move through the phase; None for fastai's one-cycle policy."""
        return None

    def rates(self, rates: list[float], context: Context) -> list[float]:
        """Change the peak rate of each parameter group, first layers first."""
        return rates

    def metrics(self, context: Context) -> list[Any]:
        """fastai metrics that are recorded for each epoch, beside accuracy."""
        return []

    def callbacks(self, context: Context | None = None) -> list[Any]:
        """fastai callbacks; without a context they serve in anybody's Learner."""
        return []

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        """Wrap how the probabilities of a set of items come about."""
        return predictor

    def complaint(self, phase: Phase) -> str | None:
        """What of the options cannot work in a phase in which it is active, as a sentence for planning."""
        return None

    def claims(self) -> list[str]:
        """What it does that only one technique of a phase may do, as verbs."""
        claimed = {
            "replace the loss": self.replaces_loss,
            "set the rates": self.overrides("schedule"),
            "choose the training order": self.overrides("sampler"),
            self.exclusive: bool(self.exclusive),
        }
        return [what for what, does in claimed.items() if does]

    def overrides(self, hook: str) -> bool:
        """Whether this technique has a hook of its own."""
        return getattr(type(self), hook) is not getattr(Technique, hook)

    def trains_in(self, phase: str) -> bool:
        """Whether the technique can change what training a phase gives, the list of phases aside."""
        surgery = any(self.overrides(hook) for hook in SURGERY_HOOKS)
        return surgery or (self.active_in(phase) and any(self.overrides(hook) for hook in TRAINING_HOOKS))

    def identity(self, on: Mapping[str, Technique]) -> dict[str, Any]:
        """What of this technique can change a stage's result, for the stage's key.

        Args:
            on: All techniques that take part in the stage, for one whose options default to those of another.
        """
        options = self.model_dump(exclude=set(self.structural))
        own = {"name": self.name, "version": self.version, "options": options}
        source = source_hash(type(self))
        return own if source is None else own | {"source": source}


class InPhases(Technique):
    """A technique that can be limited to some phases."""

    structural: ClassVar[frozenset[str]] = frozenset({"phases"})
    phases: list[str] | None = Field(None, description="The phases in which it is on; default: all.")

    def active_in(self, phase: str) -> bool:
        return self.phases is None or phase in self.phases

    def phase_names(self) -> list[str]:
        return list(self.phases or [])


@cache
def source_hash(technique: type[Technique]) -> str | None:
    """The hash of the modules from outside that a technique's classes stand in; None for ablate's own.

    Raises:
        AblateError: The source of one cannot be read.
    """
    modules = [one.__module__ for one in technique.__mro__[: technique.__mro__.index(Technique)]]
    outside = [name for name in dict.fromkeys(modules) if name.split(".")[0] != "ablate"]
    if not outside:
        return None
    return checksum(b"\0".join(map(_source, outside)))


def _source(module: str) -> bytes:
    """What a module is made of: its text, or the file if it was compiled."""
    try:
        return inspect.getsource(sys.modules[module]).encode()
    except (KeyError, TypeError, OSError):
        file = getattr(sys.modules.get(module), "__file__", None)
        if file and Path(file).is_file():
            return Path(file).read_bytes()
    raise AblateError(
        f"{module}: its source, which is part of the identity of the techniques in it, cannot be read; put "
        "them into a file, or add them with Recipe.with_technique."
    )
