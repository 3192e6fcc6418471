"""The plan's graph: what is asked for, what is trained, what comes before what."""

from __future__ import annotations

from ablate.study.graph import Plan, Stage, Trial


def fit(key: str, epochs: int, *parents: str) -> Stage:
    return Stage(key, "fit", key, {"phase": {"epochs": epochs}}, 0, 0, parents)


def predict(key: str, parent: str) -> Stage:
    return Stage(key, "predict", key, {"phase": {"epochs": 99}}, 0, 0, (parent,))


def example() -> Plan:
    """Two trials that share a head of 3 epochs, with tails of 2 and 5."""
    stages = [
        predict("pa", "a"),
        fit("a", 2, "head"),
        fit("head", 3),
        fit("b", 5, "head"),
        predict("pb", "b"),
    ]
    trials = [Trial("a", 0, 0, {}, ("head", "a"), "pa"), Trial("b", 0, 0, {}, ("head", "b"), "pb")]
    return Plan(trials, {stage.key: stage for stage in stages})


def test_epochs_asked_for_and_trained():
    plan = example()
    assert plan.requested_epochs == 3 + 2 + 3 + 5
    assert plan.unique_epochs == 3 + 2 + 5
    assert plan.merge_rate == 1.3


def test_parents_come_first_and_nothing_else_is_needed():
    assert example().needed(["pb"]) == ["head", "b", "pb"]
    assert example().needed(["pa", "pb"]) == ["head", "a", "pa", "b", "pb"]


def test_a_chain_of_any_length():
    count = 20_000
    stages = [fit(str(i), 1, *([str(i - 1)] if i else [])) for i in range(count)]
    plan = Plan([], {stage.key: stage for stage in stages})
    assert plan.needed([str(count - 1)]) == [stage.key for stage in stages]


def test_names_for_people():
    assert Trial("x", 1, 0, {}, (), "").name == "x, seed 1"
    assert Trial("x", 1, 2, {}, (), "").name == "x, seed 1, fold 2"
