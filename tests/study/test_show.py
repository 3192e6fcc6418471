"""ablate.study.show: what `ablate plan`, `check` and `techniques` print."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from ablate import techniques
from ablate.cli import main
from ablate.data.check import CheckReport
from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData, Plan
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.study.show import (
    MOST_ROWS,
    PIPE_WIDTH,
    make_console,
    print_check,
    print_plan,
    print_techniques,
)
from ablate.study.summary import plan_numbers


@pytest.fixture
def console() -> Console:
    return Console(
        width=200, record=True, markup=False, emoji=False, highlight=False, file=open("/dev/null", "w")
    )


def shown(console: Console) -> list[str]:
    """The lines that were printed, with single spaces."""
    return [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip()]


def planned(**changes: Any) -> tuple[dict[str, Any], Plan]:
    values: dict[str, Any] = {
        "name": "shown",
        "size": 32,
        "phases": [{"name": "one", "epochs": 3}, {"name": "two", "epochs": 2, "lr": "find"}],
        "techniques": {
            "mixup": {"further": {"name": "late", "epochs": 4}},
            "cutmix": {"phases": ["two"]},
            "progressive_resizing": {"one": 16},
        },
        "study": {
            "vary": ["mixup", "cutmix", "progressive_resizing", "tta", {"techniques.tta.n": [4, 8]}],
            "seeds": 2,
        },
    }
    recipe = Recipe.from_dict(values | changes)
    prepared = prepare(recipe)
    plan = make_plan(recipe, prepared.identities)
    return plan_numbers(recipe, plan, prepared), plan


LEFT = {
    "stored_stages": 4,
    "epochs_left": 26,
    "unmeasured_stages": 0,
    "estimated_seconds": 1260.0,
    "estimated_bytes": 1_200_000_000,
    "free_bytes": 34_000_000_000,
}


class TestPlan:
    def test_numbers(self, console: Console) -> None:
        print_plan(*planned(), console)
        lines = shown(console)
        assert "trials 12 = 6 variants × 2 seeds" in lines
        assert "stages 24: 12 to train, 2 to find learning rates, 10 to predict" in lines
        assert "epochs asked for 68" in lines
        assert "epochs to train 32 (36 are shared: merge rate 2.12)" in lines
        assert "images 1438 to train on, 359 to validate on" in lines
        effect = next(line for line in lines if line.startswith("detectable effect"))
        assert "points of accuracy with 2 seeds and 359 images" in effect
        assert effect.endswith("the recipe's smallest_effect of 0.5 points is out of reach")

    @pytest.mark.parametrize(
        ("changes", "rows"),
        [
            (
                {},
                [
                    "already stored 4 stages",
                    "estimated time about 21 min for the 26 epochs left, from measured stages",
                    "disk about 1.2 GB for what is left, 34.0 GB free",
                ],
            ),
            (
                {"unmeasured_stages": 3},
                [
                    "estimated time about 21 min for the 26 epochs left, from measured stages, "
                    "and 3 stages like none that was measured"
                ],
            ),
            (
                {"estimated_seconds": None, "estimated_bytes": None},
                [
                    "estimated time unknown until a stage has been measured",
                    "disk unknown until a stage has been measured, 34.0 GB free",
                ],
            ),
            (
                {"stored_stages": 24},
                ["already stored all stages: nothing is left to compute", "disk 34.0 GB free"],
            ),
        ],
    )
    def test_what_is_left(self, console: Console, changes: dict[str, Any], rows: list[str]) -> None:
        numbers, plan = planned()
        print_plan(numbers | LEFT | changes, plan, console)
        assert {*rows} <= {*shown(console)}

    def test_what_is_stored_cannot_be_told_without_the_images(self, console: Console) -> None:
        numbers, plan = planned()
        plan.data_known = False
        print_plan(numbers | LEFT | {"stored_stages": 0}, plan, console)
        assert "already stored cannot be told yet" in shown(console)

    def test_variants(self, console: Console) -> None:
        print_plan(*planned(), console)
        lines = shown(console)
        assert "variant phases: epochs at size shares with baseline" in lines
        assert "baseline one: 3 at 32 → two: 2 at 32" in lines
        assert "baseline+mixup one: 3 at 32 → two: 2 at 32 → late: 4 at 32 one, two" in lines
        assert "baseline+cutmix one: 3 at 32 → two: 2 at 32 one" in lines
        assert "baseline+progressive_resizing one: 3 at 16 → two: 2 at 32 nothing" in lines
        assert "baseline+tta one: 3 at 32 → two: 2 at 32 all training" in lines
        assert "baseline+techniques.tta.n=8 one: 3 at 32 → two: 2 at 32 everything" in lines

    def test_comparisons(self, console: Console) -> None:
        print_plan(*planned(), console)
        lines = shown(console)
        assert "mixup on baseline+mixup − baseline unequal epochs" in lines
        assert "cutmix on baseline+cutmix − baseline" in lines
        assert "techniques.tta.n 8 baseline+techniques.tta.n=8 − baseline nothing differs" in lines

    def test_exploratory(self, console: Console) -> None:
        print_plan(*planned(study={"vary": ["cutmix", "tta"], "design": "factorial", "seeds": 1}), console)
        lines = shown(console)
        assert "cutmix:tta on:on cutmix × tta exploratory" in lines
        assert "detectable effect none with 1 seed and 359 images; differences need at least 2 seeds" in lines

        assert not any("cannot be told from" in line for line in lines)

    def test_aliases(self, console: Console) -> None:
        vary = ["mixup", "cutmix", "tta"]
        study = {"vary": vary, "design": "fractional", "fraction": {"variants": 4}, "seeds": 1}
        print_plan(*planned(study=study), console)
        lines = shown(console)
        assert "design fractional: 4 of 8 variants, resolution III" in lines
        assert "factor level comparison note cannot be told from" in lines
        assert "mixup on mixup unequal epochs cutmix × tta" in lines
        assert not any(line.startswith("cutmix:tta") for line in lines)

    def test_without_factors(self, console: Console) -> None:
        print_plan(*planned(study={"seeds": 1}), console)
        lines = shown(console)
        assert "trials 1 = 1 variant × 1 seed" in lines
        assert "epochs to train 5 (nothing is shared)" in lines
        assert "comparisons" not in lines

    def test_folds(self, console: Console) -> None:
        numbers, plan = planned(study={"seeds": 1})
        print_plan(numbers | {"folds": 5}, plan, console)
        assert "trials 1 = 1 variant × 1 seed × 5 folds" in shown(console)

    def test_leave_one_out_shares_with_the_full_variant(self, console: Console) -> None:
        print_plan(
            *planned(study={"vary": ["cutmix", "tta"], "design": "leave_one_out", "seeds": 1}), console
        )
        lines = shown(console)
        assert "variant phases: epochs at size shares with full" in lines
        assert "full-tta one: 3 at 32 → two: 2 at 32 all training" in lines

    @pytest.mark.parametrize("known", [True, False])
    def test_images_that_are_not_known(self, console: Console, known: bool) -> None:
        numbers, plan = planned(study={"seeds": 1})
        plan.data_known = known
        print_plan(numbers, plan, console)
        assert ("Not all images have been looked at yet" in console.export_text()) is not known

    def test_thousands_of_variants_are_cut_off(self, console: Console) -> None:
        rates = [1e-3 * (i + 1) / 200 for i in range(200)]
        recipe = Recipe.from_dict(
            {
                "name": "a",
                "size": 32,
                "phases": [{"name": "one", "epochs": 1}],
                "study": {"vary": [{"phases.one.lr": rates}], "seeds": 1},
            }
        )
        plan = make_plan(recipe, [FoldData(0, "a", "b")])
        numbers, _ = planned(study={"seeds": 1})
        print_plan(numbers, plan, console)
        lines = shown(console)
        assert f"… and {200 - MOST_ROWS} more" in lines
        assert f"… and {199 - MOST_ROWS} more" in lines
        assert len(lines) < 2 * MOST_ROWS + 30


REPORT = CheckReport(
    bad=[],
    counts=[{"train": [3, 4], "valid": [1, 2], "test": [0, 0]}],
    sizes=(32, 24, 640, 480),
    leaks=[],
    repeats=[],
    classes=["cat", "dog"],
    n_items=10,
)


class TestCheck:
    def test_all_is_well(self, console: Console) -> None:
        print_check(REPORT, console)
        lines = shown(console)
        assert [line for line in lines if line[0] in "acd" and "─" not in line] == [
            "class train valid",
            "cat 3 1",
            "dog 4 2",
            "all 7 3",
        ]
        assert "sizes: 32 × 24 pixels to 640 × 480" in lines
        assert lines[-1] == "All 10 images can be used, and none stands on two sides of a split."

    def test_one_size(self, console: Console) -> None:
        print_check(replace(REPORT, sizes=(8, 8, 8, 8)), console)
        assert "sizes: 8 × 8 pixels" in shown(console)

    def test_folds_have_columns(self, console: Console) -> None:
        print_check(replace(REPORT, counts=[{"train": [2, 2], "valid": [1, 1]}] * 2), console)
        assert "class train 0 valid 0 train 1 valid 1" in shown(console)

    def test_bad_images(self, console: Console) -> None:
        print_check(replace(REPORT, bad=[("a[1].jpg", "is :x: empty."), ("b.jpg", "is missing.")]), console)
        lines = shown(console)
        assert "cannot be used (2):" in lines
        assert "a[1].jpg: is :x: empty." in lines
        assert lines[-1] == "2 of 10 images cannot be used; mend them or drop their rows."

    def test_nothing_can_be_used(self, console: Console) -> None:
        bad = [(str(i), "is missing.") for i in range(10)]
        print_check(replace(REPORT, bad=bad, sizes=(0, 0, 0, 0)), console)
        assert not [line for line in shown(console) if line.startswith("sizes")]

    def test_leaks_and_repeats(self, console: Console) -> None:
        leaks = [(0, "train", "valid", ("a", "b"), ("c",))]
        print_check(replace(REPORT, leaks=leaks, repeats=[("d", "e")]), console)
        lines = shown(console)
        assert "the same image on two sides of a split (1):" in lines
        assert "train: a, b = valid: c" in lines
        assert "the same image with different labels (1):" in lines
        assert "d = e" in lines
        assert lines[-1].startswith("All 10 images can be used, but some stand on two sides of a split")

    def test_twins_and_what_is_left_out(self, console: Console) -> None:
        twins = [(0, "train", "valid", "a", "b", 2)]
        left_out = [("c", "near-duplicate of d in validation, distance 0")]
        print_check(replace(REPORT, twins=twins, left_out=left_out), console)
        lines = shown(console)
        assert "images that look the same on two sides of a split (1):" in lines
        assert "train: a ~ valid: b (distance 2)" in lines
        assert "extra images that are left out (1):" in lines
        assert "c: near-duplicate of d in validation, distance 0" in lines
        assert lines[-1].startswith("All 10 images can be used, but some look like ones on the other side")

    def test_twins_that_were_not_looked_for(self, console: Console) -> None:
        print_check(replace(REPORT, twins=None), console)
        assert [line for line in shown(console) if "were not looked for: there are too many" in line]

    def test_leaks_name_their_fold_where_there_are_several(self, console: Console) -> None:
        leaks = [(1, "train", "valid", ("a",), ("c",))]
        print_check(replace(REPORT, leaks=leaks, counts=REPORT.counts * 2), console)
        assert "fold 1: train: a = valid: c" in shown(console)

    def test_thousands_of_problems_are_cut_off(self, console: Console) -> None:
        bad = [(f"{i}.jpg", "is missing.") for i in range(5000)]
        counts = [{"train": list(range(1000)), "valid": [1] * 1000}]
        classes = [str(i) for i in range(1000)]
        print_check(replace(REPORT, bad=bad, n_items=6000, counts=counts, classes=classes), console)
        lines = shown(console)
        assert len(lines) < 2 * MOST_ROWS + 30
        assert f"… and {5000 - MOST_ROWS} more" in lines
        assert f"all {sum(range(1000))} 1000" in lines  # the sums are of all classes


class TestTechniques:
    def test_all_options_defaults_and_papers(self, console: Console) -> None:
        print_techniques(console)
        text = " ".join(shown(console))
        for name, technique in techniques.registry().items():
            assert f" {name} " in f" {text}"
            assert technique.paper in text
            assert " ".join((technique.__doc__ or "").splitlines()[0].split()) in text
            for option, field in technique.model_fields.items():
                assert f"{option}: " in text
                assert (field.description or "") in text

    def test_defaults_are_written_as_in_a_recipe(self, console: Console) -> None:
        print_techniques(console)
        lines = shown(console)
        assert "alpha: 0.4 Beta's parameter: small mixes little, 1 evenly." in lines
        assert "do_flip: true Mirror left and right." in lines
        assert "phases: null The phases in which it is on; default: all." in lines

    def test_the_command(self) -> None:
        result = CliRunner().invoke(main, ["techniques"])
        assert result.exit_code == 0
        assert "arXiv 1710.09412" in result.stdout


def test_a_pipe_gets_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console().width == PIPE_WIDTH
    monkeypatch.setenv("COLUMNS", "77")
    assert make_console().width == 77
