"""The schema of a recipe: what may be written, with which types and defaults.

Nothing here reads a file or imports torch. Rules that need more than one field are in `checks`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["float32", "bfloat16", "float16"]
Design = Literal["one_at_a_time", "leave_one_out", "cumulative", "factorial", "fractional"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
PositiveInt = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Shards = Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]
"""Paths, URLs, glob patterns (`train-*.tar`) or ranges (`train-{000..127}.tar`)."""


class Section(BaseModel):
    """A part of a recipe: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ImageColumn(Section):
    """Where a table or a shard has the images."""

    column: str = Field(
        default="image",
        description="The column with the image's file name; of TFRecords the feature with its bytes, of tars "
        "the extension, by default any image's.",
    )
    folder: str = Field(default="", description="The folder of the images, under data.root.")
    suffix: str = Field(default="", description="Added to each name, for tables without it: .jpg")


class LabelColumn(Section):
    """Where a table or a shard says what an image shows."""

    column: str = Field(
        default="label",
        description="The column or feature with the class; of tars an extension or a field of .json. By "
        "default label, else target in TFRecords and .cls in tars.",
    )


class IdColumn(Section):
    """Where a shard has an image's unique name."""

    column: str = Field(
        default="image_name", description="The feature, or of tars an extension or a field of .json."
    )


class Stream(Section):
    """Training shard by shard, for data that no disk or memory holds at once."""

    shards: int = Field(default=8, ge=1, description="How many shards are shuffled together.")


class Split(Section):
    """How items are divided into training and validation; the same for all trials."""

    column: str | None = Field(default=None, description="A column of booleans: true is validation.")
    shards: Shards | None = Field(default=None, description="The shards that are validation: valid-*.tar")
    random: float | None = Field(
        default=None, gt=0, lt=1, description="The share of items held out at random."
    )
    none: Literal[True] | None = Field(
        default=None, description="No validation set: train on everything, compare nothing."
    )
    folds: int | None = Field(default=None, ge=2, description="The number of folds of a cross-validation.")
    stratify: bool = Field(default=True, description="Keep the class shares equal on both sides.")
    group: str | None = Field(
        default=None, description="A column (patient, lesion) whose rows stay on one side."
    )
    seed: int = Field(default=0, ge=0, description="The split's own seed, apart from the trials' seeds.")

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        ways = (self.column, self.shards, self.random, self.folds, self.none)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of column, shards, random, folds and none")
        return self


class TestSplit(Section):
    """Items that nothing is chosen on: only the winner is scored on them, once, at the end."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    column: str | None = Field(default=None, description="A column of booleans: true is test.")
    shards: Shards | None = Field(default=None, description="The shards that are test: test-*.tar")
    random: float | None = Field(
        default=None, gt=0, lt=1, description="The share of items held out at random."
    )
    table: str | None = Field(
        default=None, description="A further table with the same columns, under data.root."
    )
    folder: str | None = Field(default=None, description="The folder of that table's images, if another.")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_way(self) -> TestSplit:
        if sum(way is not None for way in (self.column, self.shards, self.random, self.table)) != 1:
            raise ValueError("give exactly one of column, shards, random and table")
        return self


class Extra(Section):
    """More training images: never validated or tested on."""

    table: str = Field(description="A further table with the same columns, under data.root.")
    folder: str | None = Field(default=None, description="The folder of its images, if another.")
    near_duplicates: Literal["keep"] | Annotated[int, Field(ge=0, le=32)] = Field(
        default=8,
        description="Extra images are left out whose perceptual hash differs in at most so many of 64 bits "
        "from that of a validation or test image.",
    )


class Tabular(Section):
    """Columns of the table that the network sees beside the image."""

    numeric: list[str] = Field(
        default_factory=list, description="Columns of numbers; imputed and scaled by the training split."
    )
    categorical: list[str] = Field(default_factory=list, description="Columns of names; one-hot.")
    missing: list[str] = Field(
        default_factory=lambda: ["", "NA", "N/A", "NaN", "nan", "null"],
        description="What stands for a missing value.",
    )

    @model_validator(mode="after")
    def _some(self) -> Tabular:
        columns = [*self.numeric, *self.categorical]
        if not columns:
            raise ValueError("give numeric or categorical columns")
        if len(set(columns)) != len(columns):
            raise ValueError("a column stands twice")
        return self


class Cache(Section):
    """How presized images are kept."""

    format: Literal["raw", "jpeg"] = Field(
        default="raw",
        description="raw keeps the pixels; jpeg takes a fifth of the disk and is part of results.",
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(default=95, description="Of JPEGs.")


class Data(Section):
    """Where the images and their labels are, and how they are split."""

    source: Literal["table", "folders", "webdataset", "tfrecord", "digits"] | None = Field(
        default=None,
        description="Default: by what is given, table, shards (tar or TFRecord by their names) or root; "
        "else digits.",
    )
    root: str | None = Field(
        default=None, description="The folder that the other paths are under; of shards also a URL."
    )
    table: str | None = Field(default=None, description="A CSV file with a row per image.")
    shards: Shards | None = Field(
        default=None,
        description="WebDataset tars or TFRecords: paths or URLs, such as train-*.tar, train-{000..127}.tar",
    )
    image: ImageColumn = Field(default_factory=lambda: ImageColumn())
    label: LabelColumn = Field(default_factory=lambda: LabelColumn())
    id: IdColumn | None = Field(
        default=None,
        description="Of shards; default: the key of a tar's member, image_name in TFRecords if there is one.",
    )
    split: Split = Field(default_factory=lambda: Split(random=0.2))
    test: TestSplit | None = None
    extra: Extra | None = Field(default=None, description="More training images, from a further table.")
    tabular: Tabular | None = Field(default=None, description="Columns that the network sees too.")
    cache: Literal["auto", "off"] | Cache = Field(
        default="auto",
        description="Keep presized images on the disk: auto does where there is room, and not for a stream.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        default="error",
        description="Whether an image that cannot be used ends the study or is left out, and listed.",
    )
    stream: Stream | None = Field(
        default=None, description="Train on a few shards at a time; default: shuffle all images together."
    )

    @property
    def jpeg(self) -> int | None:
        """The quality of presized images that are kept as JPEGs; None for all others."""
        return self.cache.quality if isinstance(self.cache, Cache) and self.cache.format == "jpeg" else None

    @property
    def is_cached(self) -> bool:
        """Whether presized images are kept, if there is room."""
        return self.cache != "off" and (self.cache != "auto" or self.stream is None)

    @property
    def kind(self) -> str:
        """The source in force, given or inferred."""
        if self.source or self.table or not self.shards:
            return self.source or ("table" if self.table else "folders" if self.root else "digits")
        first = self.shards if isinstance(self.shards, str) else self.shards[0]
        return "webdataset" if re.search(r"\.(tar|tgz)\b", first) else "tfrecord"

    @model_validator(mode="after")
    def _complete(self) -> Data:
        if self.kind == "table" and not self.table:
            raise ValueError("source: table needs a table, such as table: train.csv")
        if self.kind == "folders" and not self.root:
            raise ValueError("source: folders needs a root, the folder with one folder of images per class")
        if self.kind in ("webdataset", "tfrecord"):
            self._complete_shards()
        else:
            self._without_shards()
        return self

    def _complete_shards(self) -> None:
        if not self.shards:
            raise ValueError(f"source: {self.kind} needs shards, such as shards: train-{{000..127}}.tar")
        if self.table:
            raise ValueError("shards carry their own labels; drop table, or use source: table without shards")
        if self.test and self.test.table:
            raise ValueError("shards have no test.table; write test: {shards: test-*.tar}, column or random")
        if self.image.folder or self.image.suffix:
            raise ValueError("image.folder and image.suffix are for tables; drop them beside shards")

    def _without_shards(self) -> None:
        given = {
            "shards": self.shards,
            "split.shards": self.split.shards,
            "test.shards": self.test and self.test.shards,
            "stream": self.stream,
            "id": self.id,
        }
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is for webdataset and tfrecord, but the source is {self.kind}")


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
    tabular: PositiveInt = Field(default=50, description="The width of the layer for tabular inputs.")

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


class Variation(Section):
    """One variant of an explicit design."""

    name: Annotated[str, Field(min_length=1)] | None = None
    on: list[str] = Field(default_factory=list, description="Techniques that are on beside the baseline's.")
    off: list[str] = Field(default_factory=list, description="Techniques of the baseline that are off.")
    set: dict[str, Any] = Field(default_factory=dict, description="Recipe fields and their values.")

    @property
    def full_name(self) -> str:
        """The name given, or one made of the changes: `baseline+mixup-augment+model.arch=resnet34`."""
        parts = [f"+{name}" for name in self.on] + [f"-{name}" for name in self.off]
        parts += [f"+{name}={value}" for name, value in self.set.items()]
        return self.name or "baseline" + "".join(parts)


class Fraction(Section):
    """How many of all combinations a fractional design runs: by what it must tell apart, or by a budget."""

    resolution: int = Field(
        default=4,
        ge=3,
        le=13,
        description="3: main effects apart from each other; 4: also from two-factor interactions; 5: those "
        "from each other too. Takes the fewest variants that do.",
    )
    variants: int | None = Field(
        default=None, ge=2, description="The most variants; takes the highest resolution that they allow."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Fraction:
        if self.variants is not None and "resolution" in self.model_fields_set:
            raise ValueError("give resolution or variants, not both")
        return self


class Expected(Section):
    """What a plan assumes of the results to tell what effect can be seen; it changes no result."""

    error: float = Field(
        default=0.1, gt=0, lt=1, description="The share of images that a variant gets wrong."
    )
    seed_sd: float = Field(
        default=0.005, ge=0, lt=1, description="The standard deviation of a variant's accuracy between seeds."
    )


class Study(Section):
    """What is compared with what, how often, and what difference matters."""

    baseline: list[str] = Field(default_factory=list, description="What is on in the reference variant.")
    vary: list[str | dict[str, list[Any]]] = Field(default_factory=list, description="The factors.")
    design: Design | list[list[str] | Variation] = "one_at_a_time"
    fraction: Fraction | None = Field(
        default=None, description="Of a fractional design; default: resolution 4."
    )
    seeds: (
        Annotated[int, Field(ge=1, le=10_000)]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    ) = 5
    folds: list[int] | None = Field(
        default=None, min_length=1, description="Which folds to run; default all."
    )
    metric: str = "accuracy"
    metrics: list[str] = Field(default_factory=list, description="What else is measured, and not judged.")
    smallest_effect: float = Field(default=0.005, gt=0, description="The smallest difference that matters.")
    expected: Expected = Field(default_factory=lambda: Expected())
    retries: int = Field(default=0, ge=0, le=10, description="How often a stage that failed is tried again.")

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves: `5` means 0 to 4."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def variations(self) -> list[Variation]:
        """The variants of an explicit design, beside the baseline; none of the other designs has any."""
        given = self.design if isinstance(self.design, list) else []
        return [Variation(on=one) if isinstance(one, list) else one for one in given]


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
    study: Study = Field(default_factory=lambda: Study())
