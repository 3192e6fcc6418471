"""Studies that add seeds until they are decided: which trials a look takes, and real runs on digits."""

from __future__ import annotations

import copy
import io
import json
import math
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from real_runs import differing, outputs

from ablate.analysis.contrasts import Contrast
from ablate.analysis.looks import nominal_levels
from ablate.cli import main
from ablate.errors import AblateError, StageFailed
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData, Plan, Stage, Trial
from ablate.study.plan import make_plan
from ablate.study.status import Status
from ablate.study.study import Study
from ablate.study.until_decided import (
    choose_looks,
    findings,
    first_trials,
    more_trials,
    part,
    require_question,
    with_seeds,
)

RECIPE: dict[str, Any] = {
    "name": "looks",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "data": {"source": "digits", "split": {"random": 0.2}, "test": {"random": 0.1}},
    "phases": [{"name": "one", "epochs": 3, "lr": 2e-3}],
    # one level that clearly hurts, and one whose seeds differ so much that three say little
    "study": {"baseline": ["normalize"], "vary": [{"phases.one.lr": [2e-3, 1e-9, 4e-3]}], "seeds": 2},
}
HURTS, OPEN = "baseline+phases.one.lr=1e-09", "baseline+phases.one.lr=0.004"


def test_looks_are_chosen_only_where_they_are_asked_for():
    assert choose_looks(False, None, quick=False) is None
    assert choose_looks(True, None, quick=False) == (3, 5, 8, 12)
    assert choose_looks(True, 6, quick=False) == (3, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((False, 8, False), "max_seeds: is for until_decided alone; give both, or set study.seeds."),
        ((True, None, True), "until_decided: a quick run decides nothing; leave out one of the two."),
        ((True, 2, False), "max_seeds: 2 is less than the 3 seeds of the first look; give at least 3."),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(AblateError) as raised:
        choose_looks(*options)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(2, [0, 1, 2, 3]), (9, [0, 1, 2, 3]), ([7, 3], [7, 3, 8, 9]), ([5, 4, 3, 2, 1], [5, 4, 3, 2])],
)
def test_seeds_go_on_after_those_of_the_recipe(given, seeds):
    recipe = Recipe.from_dict(RECIPE | {"study": RECIPE["study"] | {"seeds": given}})
    assert with_seeds(recipe, 4).study.seed_list == seeds
    assert recipe.study.seeds == given


def plan_of(recipe: dict[str, Any], seeds: int) -> Plan:
    return make_plan(with_seeds(Recipe.from_dict(recipe), seeds), [FoldData(0, "train", "valid", "test")])


def test_a_part_of_a_plan_is_the_plan_of_fewer_seeds():
    whole, fewer = plan_of(RECIPE, 5), plan_of(RECIPE, 3)
    found = part(whole, first_trials(whole, (3, 5)))
    assert found.trials == fewer.trials
    assert found.stages == fewer.stages
    assert found.contrasts == whole.contrasts
    assert part(whole, dict.fromkeys(first_trials(whole, (3,)), 5)) == whole


def test_a_part_of_a_plan_keeps_what_its_trials_hang_on():
    """The rate is found on the reference, which itself may have stopped; tests stand by."""
    values = copy.deepcopy(RECIPE)
    values["phases"] = [
        {"name": "one", "epochs": 1, "lr": "find"},
        {"name": "two", "epochs": 1, "lr": "find"},
    ]
    values["study"]["vary"] = ["tta", "reseed"]
    whole = plan_of(values, 5)
    found = part(whole, {"baseline": 3, "baseline+tta": 3, "baseline+reseed": 5})
    later = [trial for trial in found.trials if trial.seed == 4]
    assert [trial.variant for trial in later] == ["baseline+reseed"]
    kinds = sorted(found.stages[key].label for key in found.needed([later[0].predict]))
    assert kinds == [
        "baseline · lr_find for one · seed 4",
        "baseline · lr_find for two · seed 4",
        "baseline · one · seed 4",
        "baseline+reseed · one · seed 4",
        "baseline+reseed · predict valid · seed 4",
        "baseline+reseed · two · seed 4",
    ]
    assert {key for key, stage in found.stages.items() if stage.seed == 4} == {
        *found.needed([later[0].predict]),
        later[0].test,
    }


def test_variants_of_open_contrasts_get_the_seeds_of_the_next_look():
    plan = Plan(
        [Trial(variant, 0, 0, {}, (), "") for variant in "abcd"],
        contrasts=[
            Contrast("b", "on", "b − a", {"b": 1.0, "a": -1.0, "d": 0.0}),
            Contrast("c", "on", "c − b", {"c": 1.0, "b": -1.0}),
            Contrast("d", "on", "d − c", {"d": 1.0, "c": -1.0}),
        ],
    )
    asked = first_trials(plan, (3, 5, 8))
    asked = more_trials(asked, plan, ["b − a"], 5)
    assert asked == {"a": 5, "b": 5, "c": 3, "d": 3}
    assert more_trials(asked, plan, ["c − b"], 8) == {"a": 5, "b": 8, "c": 8, "d": 3}


ROW = {"factor": "f", "level": "on", "contrast": "f − a", "metric": "accuracy", "primary": True}
ROW |= {"n_seeds": 3, "ci_low": -0.1}


@pytest.mark.parametrize(
    ("row", "images", "broken", "goes_on", "told"),
    [
        ({"verdict": "undecided"}, None, set(), True, "f goes on"),
        ({"verdict": "undecided"}, 4000, set(), False, "f is left open by these images, not by seeds"),
        ({"verdict": "undecided"}, None, {"f"}, False, "f waits for a trial that failed"),
        ({"verdict": "undecided"}, None, {"g"}, True, "f goes on"),
        ({"verdict": "undecided", "n_seeds": 0}, None, set(), False, "f has no pair of trials to compare"),
        (
            {"verdict": "undecided", "ci_low": math.nan},
            None,
            set(),
            False,
            "f has no interval on these images",
        ),
        ({"verdict": "helps"}, None, {"f"}, False, "f helps"),
        ({"verdict": "hurts"}, None, set(), False, "f hurts"),
        ({"verdict": "negligible"}, None, set(), False, "f makes no difference that matters"),
    ],
)
def test_what_goes_on_is_open_to_further_seeds(row, images, broken, goes_on, told):
    plan = Plan(contrasts=[Contrast("f", "on", "f − a", {"f": 1.0, "a": -1.0})])
    exploratory = ROW | {"contrast": "g − a", "primary": False, "verdict": "undecided"}
    effects = pd.DataFrame([ROW | row, exploratory, ROW | row | {"metric": "log_loss", "primary": False}])
    details = pd.DataFrame({"images_needed": [images, None, None]})
    found = findings(plan, effects, details, broken, "accuracy")
    assert found.open == (("f − a",) if goes_on else ())
    assert found.told((3, 5), 0) == f"look 1 of 2 (3 seeds): {told}"


def test_a_look_is_told_in_one_line():
    names = ["a", "b", "c", "d"]
    plan = Plan(contrasts=[Contrast(f, "on", f"{f} − x", {f: 1.0, "x": -1.0}) for f in names])
    verdicts = ["undecided", "helps", "undecided", "helps"]
    rows = [
        ROW | {"factor": f, "contrast": f"{f} − x", "verdict": v}
        for f, v in zip(names, verdicts, strict=True)
    ]
    details = pd.DataFrame({"images_needed": [None] * 4})
    found = findings(plan, pd.DataFrame(rows), details, set(), "accuracy")
    assert found.told((3, 5), 0) == "look 1 of 2 (3 seeds): b and d help; a and c go on"
    assert found.told((3, 5), 1) == "look 2 of 2 (5 seeds): b and d help; a and c are undecided"


def test_a_study_that_compares_nothing_is_refused():
    values = RECIPE | {"study": {"baseline": ["normalize"]}}
    with pytest.raises(
        AblateError, match=r"^until_decided: this study compares nothing that could be decided;"
    ):
        require_question(plan_of(values, 3))


def run(folder: Path, **options: Any) -> Study:
    """Run the study in a folder that has a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_STORE", str(folder / "store"))
        return Recipe.from_dict(RECIPE).run(folder / "runs", threads=1, **options)


def decide(folder: Path) -> Study:
    return run(folder, until_decided=True, max_seeds=5)


@dataclass
class Ran:
    """A study that has been run until it was decided, what it printed, and the jobs in their order."""

    folder: Path
    study: Study
    printed: str
    jobs: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder, told = tmp_path_factory.mktemp("until-decided"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told):
        labels = listen(patch)
        study = decide(folder)
    return Ran(folder, study, told.getvalue(), labels)


@pytest.fixture
def again(ran: Ran, tmp_path: Path) -> Path:
    """A copy of its folder, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(ran.folder, folder)
    study = Study.open(folder / "runs" / "looks")
    plan = study.folder / "plan.json"  # it names the store, and .finished is its checksum
    plan.write_text(plan.read_text().replace(str(ran.folder / "store"), str(folder / "store")))
    study.finish()
    return folder


def listen(patch: pytest.MonkeyPatch, before: Callable[[str], None] = lambda label: None) -> list[str]:
    """The labels of all jobs that run from now on; `before` each it is called."""
    labels: list[str] = []
    own = LocalExecutor.start

    def listening(self: LocalExecutor, job: Any, report: Any) -> Any:
        labels.append(job.label)
        before(job.label)
        return own(self, job, report)

    patch.setattr(LocalExecutor, "start", listening)
    return labels


def remove(folder: Path, which: Callable[[Stage], bool]) -> None:
    """Have stages of a copy never been run, and its study not been finished."""
    study = Study.open(folder / "runs" / "looks")
    for key, stage in study.stored_plan().stages.items():
        if which(stage):
            shutil.rmtree(folder / "store" / key, ignore_errors=True)
    (study.folder / ".finished").unlink()


def seeds_of(study: Study) -> dict[str, list[int]]:
    return study.trials.groupby("variant")["seed"].agg(list).to_dict()


def same(one: Path, other: Path) -> list[str]:
    """The outputs in which the studies in two folders differ, but for the report, which tells seconds."""
    found = differing(*(outputs(folder / "runs" / "looks", folder / "store") for folder in (one, other)))
    return [name for name in found if name not in ("report.html", "report.md")]


def test_seeds_are_added_only_where_the_verdict_is_open(ran: Ran):
    assert seeds_of(ran.study) == {"baseline": [0, 1, 2, 3, 4], HURTS: [0, 1, 2], OPEN: [0, 1, 2, 3, 4]}
    assert set(ran.study.trials.status) == {"ok"}
    assert "look 1 of 2 (3 seeds): phases.one.lr=1e-09 hurts; phases.one.lr=0.004 goes on" in ran.printed
    assert "look 2 of 2 (5 seeds): " in ran.printed
    effects = ran.study.effects().query("primary").set_index("contrast")
    assert effects.verdict[f"{HURTS} − baseline"] == "hurts"
    assert effects.n_seeds[f"{HURTS} − baseline"] == 3


def test_the_plan_has_the_looks_and_the_trials_that_were_asked_for(ran: Ran):
    plan = ran.study.plan
    assert plan["looks"] == [3, 5]
    assert len(plan["trials"]) == len(ran.study.trials) == 13
    assert {stage["seed"] for stage in plan["stages"].values() if HURTS in stage["label"]} == {0, 1, 2}
    assert Status(ran.study).state == "finished"
    assert Recipe.load(ran.study.folder / "recipe.yaml").study.seeds == 2


def test_everything_is_tried_once_and_only_the_winner_is_tested_at_the_end(ran: Ran):
    assert ran.jobs.count("preflight") == 1
    tests = [label for label in ran.jobs if "predict test" in label]
    assert ran.jobs[-len(tests) :] == tests
    means = ran.study.trials.groupby("variant")["accuracy"].mean()
    predictions = ran.study.predictions()
    assert set(predictions.variant[predictions.split == "test"]) == {means.idxmax()}
    assert len(tests) == (ran.study.trials.variant == means.idxmax()).sum()


def test_the_confidence_of_an_interval_is_that_of_its_look(ran: Ran):
    details = (
        pd.read_csv(ran.study.folder / "details.csv").query("metric == 'accuracy'").set_index("contrast")
    )
    first, second = nominal_levels((3, 5))
    assert details.look[f"{HURTS} − baseline"] == 3
    assert details.confidence[f"{HURTS} − baseline"] == pytest.approx(1 - first)
    assert details.confidence[f"{OPEN} − baseline"] == pytest.approx(1 - second)


def test_a_second_run_does_nothing_and_says_so(ran: Ran, again: Path, monkeypatch, capsys):
    labels = listen(monkeypatch)
    decide(again)
    assert labels == []
    assert "everything is finished; nothing to do" in capsys.readouterr().out
    assert same(ran.folder, again) == []


def test_a_run_with_the_seeds_of_the_recipe_before_or_after_shares_all_stages(
    ran: Ran, again: Path, monkeypatch, capsys
):
    labels = listen(monkeypatch)
    assert seeds_of(run(again)) == {variant: [0, 1] for variant in ("baseline", HURTS, OPEN)}
    assert "  seeds: until decided, up to 5 → those of the recipe\n" in capsys.readouterr().out
    assert decide(again).plan == ran.study.plan | {"store": str(again / "store")}
    assert "  seeds: those of the recipe → until decided, up to 5\n" in capsys.readouterr().out
    assert all("predict test" in label for label in labels)  # two seeds may have another winner
    assert [name for name in same(ran.folder, again) if name in ("trials.csv", "effects.csv")] == []


def test_what_was_killed_at_the_second_look_goes_on_there(ran: Ran, again: Path, monkeypatch, capsys):
    remove(again, lambda stage: stage.seed == 4)
    labels = listen(monkeypatch)
    decide(again)
    assert {label.split(" · ")[-1] for label in labels} == {"preflight", "seed 4"}
    assert same(ran.folder, again) == []


@pytest.mark.slow
def test_an_interrupt_at_the_second_look_keeps_what_is_finished(ran: Ran, again: Path, monkeypatch):
    remove(again, lambda stage: stage.seed > 2)

    def interrupt(label: str) -> None:
        if label == "baseline · one · seed 3":
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        listen(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            decide(again)
    study = Study.open(again / "runs" / "looks")
    assert (study.trials.status == "pending").sum() == 4
    assert study.effects().query("primary").set_index("contrast").verdict[f"{HURTS} − baseline"] == "hurts"
    status = Status(study)
    assert status.state == "interrupted"
    assert status.next.startswith(
        "`ablate run --until-decided --max-seeds 5` goes on with it: 8 stages are left"
    )
    decide(again)
    assert same(ran.folder, again) == []


def test_an_interrupt_while_the_looks_are_found_again_changes_nothing(ran: Ran, again: Path, monkeypatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ablate.study.execute.look_at", interrupt)
        with pytest.raises(KeyboardInterrupt):
            decide(again)
    assert Status(Study.open(again / "runs" / "looks")).state == "finished"
    assert same(ran.folder, again) == []


def test_between_two_looks_nothing_is_told_to_be_over(again: Path, monkeypatch):
    remove(again, lambda stage: stage.seed > 2 or stage.label == f"{OPEN} · predict valid · seed 2")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ablate.study.execute.more_trials", stop)
        with pytest.raises(KeyboardInterrupt):
            decide(again)
    status = Status(Study.open(again / "runs" / "looks"))
    assert (status.state, status.left) == ("interrupted", [])
    assert status.next == (
        "`ablate run --until-decided --max-seeds 5` looks at the results, and goes on where they leave "
        "something open."
    )


@pytest.mark.slow
def test_what_failed_is_tried_again_before_seeds_are_added(ran: Ran, again: Path, monkeypatch, capsys):
    failing = f"{OPEN} · predict valid · seed 1"
    remove(again, lambda stage: stage.seed > 2 or stage.label == failing)

    def fail(label: str) -> None:
        if label == failing:
            raise StageFailed(f"{label}: no")

    with monkeypatch.context() as patch:
        listen(patch, fail)
        study = decide(again)
    assert "hurts; phases.one.lr=0.004 waits for a trial that failed" in capsys.readouterr().out
    assert set(study.trials.seed) == {0, 1, 2}
    assert study.trials.set_index(["variant", "seed"]).status[OPEN, 1] == "failed"
    decide(again)
    assert same(ran.folder, again) == []


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    path, runner = str(tmp_path / "recipe.yaml"), CliRunner()
    found = runner.invoke(main, ["plan", path, "--until-decided", "--max-seeds", "8", "--json"])
    numbers = json.loads(found.output)
    assert (numbers["looks"], numbers["seeds"], numbers["trials"]) == ([3, 5, 8], 8, 24)
    assert (numbers["least_trials"], numbers["least_epochs"]) == (9, 27)
    shown = runner.invoke(main, ["plan", path, "--until-decided", "--max-seeds", "8"]).output
    assert "a look at 3, 5 and 8 seeds; these are the most, and 9 trials and 27 epochs the least" in shown
    for words in (["--max-seeds", "8"], ["--until-decided", "--quick"]):
        refused = runner.invoke(main, ["run", path, *words])
        assert (refused.exit_code, len(refused.output.splitlines())) == (2, 1)
