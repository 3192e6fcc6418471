"""The data section of a recipe: where the images are, what they show, how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ablate.recipe.section import Section

Shards = Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]
"""Paths, URLs, glob patterns (`train-*.tar`) or ranges (`train-{000..127}.tar`)."""


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
        if self.extra and self.kind != "table":
            raise ValueError(f"extra is a further table of a table, but the source is {self.kind}")
        if self.tabular and self.kind != "table":
            raise ValueError(f"tabular names columns of a table, but the source is {self.kind}")
        if self.tabular and self.label.column in (*self.tabular.numeric, *self.tabular.categorical):
            raise ValueError(f"tabular has {self.label.column!r}, the label; the network must not see it")
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
