"""ablate.recipe.problems: one sentence per wrong value, with file, line and a suggestion."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablate.errors import Place, RecipeError
from ablate.recipe.load import Document
from ablate.recipe.problems import Problem, dotted, raise_problems, shown, suggestion

Told = Callable[..., str]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("sise: 3", "r.yaml:6: sise is no setting; did you mean size?"),
        ("model:\n  arhc: x", "r.yaml:7: model.arhc is no setting; did you mean arch?"),
        (
            "data:\n  split: {randm: 0.2, folds: 3}",
            "r.yaml:7: data.split.randm is no setting; did you mean random?",
        ),
        ("batch_size: big", "r.yaml:6: batch_size is 'big', but must be a whole number."),
        ("batch_size: 1.5", "r.yaml:6: batch_size is 1.5, but must be a whole number."),
        ("batch_size: true", "r.yaml:6: batch_size is true, but must be a whole number."),
        ("batch_size: 0", "r.yaml:6: batch_size is 0, but must be at least 1."),
        ("batch_size:", "r.yaml:6: batch_size is empty, but must be a whole number."),
        ("weight_decay: -1", "r.yaml:6: weight_decay is -1, but must be at least 0."),
        ("weight_decay: .inf", "r.yaml:6: weight_decay is inf, but must be a finite number."),
        ("precision: half", "r.yaml:6: precision is 'half', but must be float32, bfloat16 or float16."),
        ("model: resnet18", "r.yaml:6: model is 'resnet18', but must be a mapping (name: value)."),
        (
            "model:",
            "r.yaml:6: model is empty, but must be a mapping (name: value); write {} to leave "
            "everything as it is.",
        ),
        ("model: {arch: ''}", "r.yaml:6: model.arch is '', but must be some text."),
        ("model: {arch: 18}", "r.yaml:6: model.arch is 18, but must be text."),
        (
            "deterministic: yes",
            "r.yaml:6: deterministic is 'yes', but must be true or false (in YAML 1.2 on, off, "
            "yes and no are text).",
        ),
        ("data: {split: {folds: 1}}", "r.yaml:6: data.split.folds is 1, but must be at least 2."),
        (
            "data: {split: {folds: 3, random: 0.2}}",
            "r.yaml:6: data.split cannot work: give exactly one of column, shards, random, folds and none.",
        ),
        (
            "data: {source: table}",
            "r.yaml:6: data cannot work: source: table needs a table, such as table: train.csv.",
        ),
        ("study: {vary: mixup}", "r.yaml:6: study.vary is 'mixup', but must be a list."),
        ("study: {vary: [3]}", "r.yaml:6: study.vary.0 is 3, but must be text or a mapping (name: value)."),
        ("study: {vary: [{mixup: on}]}", "r.yaml:6: study.vary.0.mixup is 'on', but must be a list."),
        ("study: {seeds: many}", "r.yaml:6: study.seeds is 'many', but must be a whole number or a list."),
        ("study: {seeds: 0}", "r.yaml:6: study.seeds is 0, but must be at least 1."),
        ("study: {seeds: []}", "r.yaml:6: study.seeds is [], but must be a list of at least 1 item."),
        (
            "study: {design: oat}",
            "r.yaml:6: study.design is 'oat', but must be one_at_a_time, leave_one_out, "
            "cumulative, factorial or fractional, or a list.",
        ),
        ("study: {design: [{onn: [mixup]}]}", "r.yaml:6: study.design.0.onn is no setting; did you mean on?"),
        ("study: {smallest_effect: 0}", "r.yaml:6: study.smallest_effect is 0, but must be above 0."),
        ("3: 4", "r.yaml:6: 3 is no setting; there are name, data,"),
    ],
)
def test_one_sentence_with_file_and_line(told: Told, more: str, sentence: str) -> None:
    said = told(more + "\n")
    assert said.startswith(sentence)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        ("fast", "lr is 'fast', but must be a number, a list or find."),
        ("-1", "lr is -1, but must be above 0."),
        ("[1e-3]", "lr is [0.001], but must be a list of at least 2 items."),
        ("[1, 2, 3]", "lr is [1, 2, 3], but must be a list of at most 2 items."),
        ("[1, x]", "lr.1 is 'x', but must be a number."),
        ("{a: 1}", "lr is {'a': 1}, but must be a number, a list or find."),
    ],
)
def test_unions_are_told_in_one_sentence(told: Told, rate: str, sentence: str) -> None:
    said = told(whole=f"name: a\nphases:\n  - name: head\n    epochs: 1\n    lr: {rate}\n")
    assert said == f"r.yaml:5: phases.head.{sentence}"


def test_a_misspelt_key_is_not_missing_too(told: Told) -> None:
    said = told(whole="name: a\nphases:\n  - {name: head, epoch: 1}\n")
    assert said == "r.yaml:3: phases.head.epoch is no setting; did you mean epochs?"


def test_missing_keys(told: Told) -> None:
    assert told(whole="size: 3\n") == "r.yaml:1: name is missing.\nr.yaml:1: phases is missing."
    assert told(whole="name: a\nphases:\n\n  - {name: a}\n") == "r.yaml:4: phases.a.epochs is missing."


def test_all_problems_in_the_order_of_the_file(told: Told) -> None:
    said = told("study: {seeds: 0}\ntechniques: {mixup: {alpa: 1}}\nbatch_size: 0\nmodel: {arc: 1}\n")
    assert [line.split(":")[1] for line in said.splitlines()] == ["6", "7", "8", "9"]


def test_suggestions() -> None:
    assert suggestion("mixp", ["mixup", "cutmix"]) == "; did you mean mixup?"
    assert suggestion("zzz", ["mixup", "cutmix"]) == "; there are mixup, cutmix."
    assert suggestion("zzz", ["mixup"]) == "; there is only mixup."
    assert suggestion("zzz", []) == "."


def test_values_are_shown_as_written_and_cut_off() -> None:
    assert [shown(value) for value in (None, True, False, "a", 1.5)] == [
        "empty",
        "true",
        "false",
        "'a'",
        "1.5",
    ]
    assert len(shown("a" * 1000)) == 58


def test_phases_go_by_name_and_other_lists_by_number() -> None:
    document = Document({"phases": [{"name": "head"}], "study": {"design": [{"name": "x"}]}})
    assert dotted(("phases", 0, "lr"), document) == "phases.head.lr "
    assert dotted(("study", "design", 0), document) == "study.design.0 "
    assert dotted((), document) == ""


def test_raise_problems() -> None:
    document = Document({"a": 1, "b": 2}, {("a",): Place("f", 3), ("b",): Place("f", 2)})
    raise_problems([], document)
    problems = [Problem(("a",), "is bad."), Problem(("b",), "is bad."), Problem(("a",), "is bad.")]
    with pytest.raises(RecipeError) as caught:
        raise_problems(problems, document)
    assert str(caught.value) == "f:2: b is bad.\nf:3: a is bad."
