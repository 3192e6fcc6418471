"""The recipe's schema: fields, types and defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablate.recipe.data_schema import Data, Split
from ablate.recipe.schema import Phase, RecipeFields
from ablate.recipe.section import Section
from ablate.recipe.study_schema import Study, Variation

PHASES = [{"name": "one", "epochs": 1}]


def test_defaults_are_the_digits_at_random() -> None:
    recipe = RecipeFields.model_validate({"name": "a", "phases": PHASES})
    assert (recipe.data.kind, recipe.data.split.random, recipe.data.split.stratify) == ("digits", 0.2, True)
    assert (recipe.study.design, recipe.study.seed_list) == ("one_at_a_time", [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "digits"),
        ({"root": "a"}, "folders"),
        ({"table": "a.csv"}, "table"),
        ({"root": "a", "source": "digits"}, "digits"),
        ({"root": "a", "shards": "train-{000..127}.tar"}, "webdataset"),
        ({"shards": ["http://a/b.tar?key=1"]}, "webdataset"),
        ({"shards": "a.tar.gz"}, "webdataset"),
        ({"shards": "train*.tfrec"}, "tfrecord"),
        ({"shards": "train.tfrecord-00000-of-01024"}, "tfrecord"),
        ({"shards": "train-*", "source": "webdataset"}, "webdataset"),
    ],
)
def test_source_is_inferred(given: dict[str, Any], kind: str) -> None:
    assert Data.model_validate(given).kind == kind


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"source": "tfrecord"}, "source: tfrecord needs shards"),
        ({"shards": "a.tar", "table": "t.csv", "source": "webdataset"}, "shards carry their own labels"),
        ({"shards": "a.tar", "table": "t.csv"}, "shards is for webdataset and tfrecord"),
        ({"shards": "a.tar", "test": {"table": "t.csv"}}, "shards have no test.table"),
        ({"shards": "a.tar", "image": {"folder": "x"}}, "image.folder and image.suffix are for tables"),
        ({"root": "a", "split": {"shards": "v.tar"}}, "split.shards is for webdataset and tfrecord"),
        ({"root": "a", "test": {"shards": "v.tar"}}, "test.shards is for webdataset and tfrecord"),
        ({"root": "a", "stream": {}}, "stream is for webdataset and tfrecord, but the source is folders"),
        ({"id": {}}, "id is for webdataset and tfrecord, but the source is digits"),
        ({"shards": "a.tar", "split": {"shards": "v", "random": 0.2}}, "exactly one of column, shards"),
        ({"shards": "a.tar", "test": {"shards": "v", "random": 0.2}}, "exactly one of column, shards"),
        ({"shards": []}, "at least 1 item"),
        (
            {"shards": "a.tar", "extra": {"table": "t.csv"}},
            "extra is a further table of a table, but the source",
        ),
        ({"root": "a", "extra": {"table": "t.csv"}}, "but the source is folders"),
        ({"shards": "a.tar", "stream": {"shards": 0}}, "greater than or equal to 1"),
    ],
)
def test_shards_with_what_does_not_fit_them(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Data.model_validate(given)


@pytest.mark.parametrize("given", [{"source": "table"}, {"source": "folders"}, {"source": "nothing"}])
def test_incomplete_sources_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Data.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"random": 0.2, "folds": 3},
        {"folds": 1},
        {"random": 0},
        {"random": 1},
        {"random": 1.5},
        {"folds": 3.0},
    ],
)
def test_splits_that_cannot_be(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Split.model_validate(given)


@pytest.mark.parametrize("rate", [1, 1e-3, [1e-6, 1e-4], "find"])
def test_rates(rate: Any) -> None:
    assert Phase.model_validate({"name": "a", "epochs": 1, "lr": rate}).lr == rate


@pytest.mark.parametrize("rate", [0, -1, "fast", [1e-3], [1, 2, 3], True, None, float("inf"), float("nan")])
def test_rates_that_are_none(rate: Any) -> None:
    with pytest.raises(ValidationError):
        Phase.model_validate({"name": "a", "epochs": 1, "lr": rate})


@pytest.mark.parametrize("name", ["", "a b", "../a", ".a", "-a", "a/b", "a" * 101, 5, None])
def test_names_that_are_no_file_names(name: Any) -> None:
    with pytest.raises(ValidationError):
        RecipeFields.model_validate({"name": name, "phases": PHASES})


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 1.0), ("epochs", "1"), ("freeze", 1), ("batch_size", True)]
)
def test_types_are_strict(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Phase.model_validate({"name": "a", "epochs": 1, field: value})


@pytest.mark.parametrize("keep", ["last", "best"])
def test_epochs_to_keep(keep: str) -> None:
    assert RecipeFields.model_validate({"name": "a", "phases": PHASES, "keep": keep}).keep == keep
    assert RecipeFields.model_validate({"name": "a", "phases": PHASES}).keep == "last"


@pytest.mark.parametrize("keep", ["first", "", True, None, 3])
def test_epochs_that_cannot_be_kept(keep: Any) -> None:
    with pytest.raises(ValidationError):
        RecipeFields.model_validate({"name": "a", "phases": PHASES, "keep": keep})


def test_retries() -> None:
    assert (Study().retries, Study(retries=10).retries) == (0, 10)


@pytest.mark.parametrize("retries", [-1, 11, 1.0, "1", True, None])
def test_retries_that_are_none(retries: Any) -> None:
    with pytest.raises(ValidationError):
        Study.model_validate({"retries": retries})


def test_every_section_refuses_unknown_keys() -> None:
    sections = list(Section.__subclasses__())
    assert len(sections) >= 8
    for section in sections:
        with pytest.raises(ValidationError, match=r"extra_forbidden|Extra inputs"):
            section.model_validate({"no_such_key": 1})


def test_seeds_by_count_or_by_name() -> None:
    assert Study(seeds=2).seed_list == [0, 1]
    assert Study(seeds=[7, 3]).seed_list == [7, 3]


def test_variations_get_names() -> None:
    study = Study(
        design=[
            ["mixup", "tta"],
            Variation(off=["augment"], set={"model.arch": "a"}),
            Variation(name="x", on=["tta"]),
        ]
    )
    names = [variation.full_name for variation in study.variations]
    assert names == ["baseline+mixup+tta", "baseline-augment+model.arch=a", "x"]
    assert Study(design="factorial").variations == []
