"""The schema of a recipe: what may be written, with which types and defaults.

Nothing here reads a file or imports torch. Rules that need more than one field are in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ablate.recipe.data_schema import Data
from ablate.recipe.section import Name, PositiveInt, Rate, Section, Share
from ablate.recipe.study_schema import Study

Precision = Literal["float32", "bfloat16", "float16"]


class Head(Section):
    """The layers between a network's feature map and its output."""

    pool: Literal["avg", "concat"] = Field(
        default="avg", description="The average, or average and maximum, as in fastai's own head."
    )
    map_dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the feature map, before pooling.")
    hidden: list[PositiveInt] = Field(default_factory=list, description="Widths of hidden layers.")
    dropout: Share | list[Share] = Field(
        default=0.0,
        description="Before the output layer; a list: after pooling, then after each hidden layer.",
    )

    @model_validator(mode="after")
    def _one_each(self) -> Head:
        if isinstance(self.dropout, list) and len(self.dropout) != len(self.hidden) + 1:
            raise ValueError(f"dropout needs a number or {len(self.hidden) + 1} values, one more than hidden")
        return self


class Model(Section):
    """The network: any timm architecture with fastai's head, or another."""

    arch: str = Field(default="resnet18", min_length=1, description="A timm architecture.")
    pretrained: bool = Field(default=True, description="Start from timm's published weights.")
    weights: str | None = Field(
        default=None, description="A local safetensors file to start from, when offline."
    )
    head: Head | None = Field(default=None, description="The head; default: fastai's.")


class Phase(Section):
    """One training phase. What is not set here comes from the recipe."""

    name: Name
    epochs: int = Field(ge=1)
    freeze: bool = Field(
        default=False, description="Train the head (and batch norms) alone, as fastai's freeze."
    )
    lr: Rate | Annotated[list[Rate], Field(min_length=2, max_length=2)] | Literal["find"] = Field(
        default=1e-3, description="One rate, [lowest, highest] over the layers, or find."
    )
    lr_spread: float = Field(
        default=1.0, ge=1, description="The first layers' rate is this much lower than the head's."
    )
    batch_size: PositiveInt | None = None
    size: PositiveInt | None = None
    presize: PositiveInt | None = None
    weight_decay: float | None = Field(default=None, ge=0)
    precision: Precision | None = None
    micro_batch: PositiveInt | None = Field(
        default=None, description="Split a batch to fit memory; rates stay."
    )


class TechniqueFile(Section):
    """A Python file with techniques, which a recipe brings along."""

    name: Name = Field(description="What the file is called, without .py.")
    source: str = Field(description="Its text.")


class RecipeFields(Section):
    """A whole recipe."""

    name: Name
    data: Data = Field(default_factory=lambda: Data())
    model: Model = Field(default_factory=lambda: Model())
    size: PositiveInt = Field(
        default=224, description="The size of the last phase, of validation and prediction."
    )
    presize: PositiveInt | None = Field(
        default=None,
        description="The shorter side that images are resized to before cropping; default: size.",
    )
    batch_size: PositiveInt = 64
    weight_decay: float = Field(default=0.01, ge=0)
    precision: Precision = "float32"
    micro_batch: PositiveInt | None = None
    devices: PositiveInt = Field(
        default=1, description="How many GPUs of one machine train a phase together, sharing each batch."
    )
    deterministic: bool = Field(default=False, description="Bit for bit on cuda too, at some cost in speed.")
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch's weights predict. best is the epoch with the lowest validation log loss, "
        "chosen on one half of the validation items and scored on the other; keep_by chooses otherwise.",
    )
    keep_by: Literal["log_loss", "accuracy", "roc_auc", "train_loss"] = Field(
        default="log_loss", description="What the best epoch is the best by."
    )
    phases: list[Phase] = Field(min_length=1)
    techniques: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Options by technique.")
    technique_files: list[str | TechniqueFile] = Field(
        default_factory=list,
        description="Python files with techniques of your own, relative to the recipe, or name and text of "
        "one each; part of the identity of what they change.",
    )
    study: Study = Field(default_factory=lambda: Study())

    @property
    def technique_sources(self) -> dict[str, str]:
        """The texts of the techniques that the recipe brings along, by file name without `.py`."""
        # a recipe that was loaded has the text in the place of every path
        return {file.name: file.source for file in self.technique_files if isinstance(file, TechniqueFile)}
