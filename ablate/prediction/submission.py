"""A submission: a sample's columns, ids and order, with what was predicted for each id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from ablate.analysis.names import MOST_CLASSES
from ablate.data.images import SUFFIXES
from ablate.errors import AblateError
from ablate.prediction.images import read_table

Meaning = Literal["label", "probability"]
_LABELS = frozenset({"label", "labels", "class", "category", "diagnosis", "prediction", "predicted"})
"""Columns of these names ask for a class, those of other names, between two classes, for a probability."""
SHOWN = 5
"""So many ids that do not match are told."""


def _whole(id_: str) -> str:
    return id_


def _bare(id_: str) -> str:
    """An id without the ending of an image file."""
    path = PurePosixPath(id_)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else id_


def _name(id_: str) -> str:
    """The last part of a path, without the ending of an image file."""
    return PurePosixPath(_bare(id_)).name


_FORMS: tuple[Callable[[str], str], ...] = (_whole, _bare, _name)
"""How ids are compared: the first form in which all of them match."""


@dataclass(frozen=True)
class Sample:
    """A sample submission.

    Args:
        path: Its file.
        columns: Their names; the first has the ids.
        rows: The cells, as text.
    """

    path: Path
    columns: list[str]
    rows: list[dict[str, str]]

    @classmethod
    def read(cls, path: str | Path) -> Sample:
        """Read a sample submission.

        Raises:
            AblateError: It cannot be read, has fewer than two columns, or an id stands twice.
        """
        path = Path(path)
        columns, rows = read_table(path, "--sample")
        if len(columns) < 2:
            raise AblateError(
                f"--sample {path}: has the column {columns[0]!r} alone; it needs ids and what to predict."
            )
        first: dict[str, int] = {}
        for line, row in rows:
            if first.setdefault(row[columns[0]], line) != line:
                id_ = row[columns[0]]
                raise AblateError(f"{path}:{line}: the id {id_!r} stands on line {first[id_]} too.")
        return cls(path, columns, [row for _, row in rows])

    @property
    def ids(self) -> list[str]:
        """In order."""
        return [row[self.columns[0]] for row in self.rows]

    def places(self, ids: Sequence[str]) -> np.ndarray:
        """The position among some images of each of the sample's ids, int64; endings and folders may differ.

        Raises:
            AblateError: Ids have no image, or images no id.
        """
        own = self.ids
        for form in _FORMS:
            place = {form(id_): i for i, id_ in enumerate(ids)}
            formed = [form(id_) for id_ in own]
            if len(place) == len(ids) and len(set(formed)) == len(own) and place.keys() == set(formed):
                return np.array([place[id_] for id_ in formed], np.int64)
        raise AblateError(self._mismatch(ids))

    def _mismatch(self, ids: Sequence[str]) -> str:
        """What does not match, in the form in which the most does."""
        form = max(_FORMS, key=lambda form: len({*map(form, ids)} & {*map(form, self.ids)}))
        images, wanted = {*map(form, ids)}, {*map(form, self.ids)}
        told = []
        if missing := [id_ for id_ in self.ids if form(id_) not in images]:
            told.append(f"{len(missing)} of its {len(self.ids)} ids have no image ({_first(missing)})")
        if more := [id_ for id_ in ids if form(id_) not in wanted]:
            told.append(f"{len(more)} of {len(ids)} images are not in it ({_first(more)})")
        if not told:
            told.append("several images have the same id without folder and ending")
        return (
            f"--sample {self.path}: {' and '.join(told)}; give the images that it asks for, and all of them."
        )

    def meaning(self, classes: Sequence[str]) -> Meaning:
        """What a sample with one column beside the ids asks for.

        A column named as a class has its probability. Between two classes it is a label where the name says
        so (`label`, `class` …) or the values are names of classes that are no numbers; everything else, such
        as `target`, is a probability. Among more classes it is a label.
        """
        name = self.columns[1]
        values = {row[name] for row in self.rows}
        if name in classes:
            return "probability"
        if len(classes) > 2:
            return "label"
        named = values <= set(classes) and not all(_is_number(value) for value in values)
        whole = all(not _is_number(value) or float(value) == int(float(value)) for value in values)
        return "label" if named or (name.lower() in _LABELS and whole) else "probability"


def wanted(sample: Sample, classes: Sequence[str], meaning: Meaning | None = None) -> dict[str, str | None]:
    """What each of a sample's columns but the ids asks for: a class's probability, or None for the label.

    Args:
        sample: The sample.
        classes: The names of the classes.
        meaning: What a single column asks for; default `Sample.meaning`.

    Raises:
        AblateError: A column is neither a class nor the only one, or not all probabilities are kept.
    """
    columns = sample.columns[1:]
    single = columns[0] if len(columns) == 1 else None
    if single and (meaning or sample.meaning(classes)) == "label":
        return {single: None}
    if len(classes) > MOST_CLASSES:
        raise AblateError(
            f"--sample {sample.path}: the probabilities of all {len(classes):,} classes are not kept; a "
            "sample with one column, for the label, is what can be filled in."
        )
    if single and single not in classes:
        return {single: _positive(single, sample, classes)}
    if unknown := [name for name in columns if name not in classes]:
        shown = ", ".join(classes[:20]) + (" …" if len(classes) > 20 else "")
        raise AblateError(f"--sample {sample.path}: column {unknown[0]!r} is no class; there are {shown}.")
    return dict(zip(columns, columns, strict=True))


def _positive(name: str, sample: Sample, classes: Sequence[str]) -> str:
    """The class that a probability between two is about: the second."""
    if len(classes) != 2:
        raise AblateError(
            f"--sample {sample.path}: column {name!r} is no class, and there are {len(classes)} of them, so "
            "it cannot be told whose probability it asks for; take --values label."
        )
    return classes[1]


def told(asked: Mapping[str, str | None]) -> str:
    """A few words on what stands in a submission's columns."""
    if len(asked) > 1:
        return "each column has the probability of the class of its name"
    name, of = next(iter(asked.items()))
    return f"column {name}: " + ("the label" if of is None else f"the probability of class {of!r}")


def fill(
    sample: Sample, asked: Mapping[str, str | None], ids: Sequence[str], table: pd.DataFrame
) -> pd.DataFrame:
    """The submission: the sample's columns, with its ids in its order.

    Args:
        sample: The sample.
        asked: As `wanted` gives it.
        ids: Of the images, in the order of the table.
        table: As `ablate.prediction.tables.predicted_table` gives it.

    Raises:
        AblateError: Ids do not match.
    """
    rows = table.iloc[sample.places(ids)].reset_index(drop=True)
    columns = {name: rows["label" if of is None else f"p_{of}"] for name, of in asked.items()}
    return pd.DataFrame({sample.columns[0]: sample.ids} | columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (" …" if len(ids) > SHOWN else "")
