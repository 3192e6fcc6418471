"""`ablate report --wandb`: all that the report and the saved view show is there, of the right runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
from click.testing import CliRunner, Result
from loopback import Fault, Loopback
from tracked import sync
from wandb_backend import ENTITY, HISTORY, Run

from ablate.cli import main
from ablate.tracking.described import Described
from ablate.tracking.notes import Notes


@pytest.fixture(autouse=True)
def own_client(backend: Loopback) -> Iterator[None]:
    """wandb reads its variables once in a process: each test has it read its own."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def told(study: Path, backend: Loopback) -> Path:
    """A study of whose runs the backend has one line of the study's own."""
    run = Run(Described(study, Notes(study).id).study_id, ENTITY, "ablate", lines={HISTORY: {0: "{}"}})
    backend.runs[run.id] = run
    return study


def report(study: Path) -> Result:
    return CliRunner().invoke(main, ["report", str(study), "--wandb"])


def specs(backend: Loopback) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of the report and of the view."""
    found = {view["type"]: json.loads(view["spec"]) for view in backend.views.values()}
    return found["runs"], found["project-view"]["section"]


def chosen(runs: list[Run], runset: dict[str, Any]) -> set[str]:
    """The names of the runs that the filters of a runset let through, as the app reads them."""
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda has, wanted: has == wanted,
        "IN": lambda has, wanted: bool(set(has) & set(wanted)),
        "NIN": lambda has, wanted: not set(has) & set(wanted),
    }
    filters = runset["filters"]["filters"]
    assert all(one.get("connector", "AND") == "AND" and not one["disabled"] for one in filters)
    assert {one["key"]["section"] for one in filters} == {"run"}

    def passes(run: Run) -> bool:
        has = {"group": run.group, "jobType": run.job_type, "tags": run.tags}
        return all(tests[one["op"]](has[one["key"]["name"]], one["value"]) for one in filters)

    return {run.name for run in runs if passes(run)}


def grids(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in report["blocks"] if block["type"] == "panel-grid"]


def panels(grid: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The configurations of a grid's panels of one kind."""
    return [one["config"] for one in grid["panels"] if one["viewType"] == kind]


def test_everything_that_the_pages_show_has_arrived(study: Path, backend: Loopback):
    sent = sync(study)
    assert sent.returncode == 0, sent.stderr
    done = report(study)
    assert done.exit_code == 0, done.output
    assert len(backend.views) == 2
    assert backend.unknown == []
    (page, section), runs = specs(backend), list(backend.runs.values())
    trials = set(backend.trials)
    rows = pd.read_csv(study / "trials.csv").to_dict("records")
    assert trials == {f"{row['variant']} seed {row['seed']}" for row in rows}
    smoothed = {name for name, run in backend.trials.items() if "label_smoothing" in run.tags}
    assert smoothed == {
        f"{row['variant']} seed {row['seed']}" for row in rows if row["label_smoothing"] == "on"
    }
    assert 0 < len(smoothed) < len(trials)

    effects, curves, by_technique = grids(page)
    assert chosen(runs, effects["runSets"][0]) == {backend.study.name}
    assert chosen(runs, curves["runSets"][0]) == trials
    assert [chosen(runs, one) for one in by_technique["runSets"]] == [smoothed, trials - smoothed]
    assert "with label_smoothing" in by_technique["runSets"][0]["name"]
    assert chosen(runs, section["runSets"][0]) == {*trials, backend.study.name}
    # what runs are grouped by is in their configuration
    keys = {
        key["name"]
        for one in (curves, by_technique, section)
        for set_ in one["runSets"]
        for key in set_["grouping"]
    }
    assert keys == {"variant.value", "study.value"}
    assert all(
        {"variant", "study", "factor_label_smoothing"} <= set(run.config) for run in backend.trials.values()
    )

    shown = backend.study.rows[-1]
    for grid in (effects["panelBankSectionConfig"], section["panelBankConfig"]["sections"][0]):
        (media,) = panels(grid, "Media Browser")
        assert shown[media["mediaKeys"][0]]["_type"] == "image-file"
        (table,) = panels(grid, "Weave")
        assert shown[table["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]]["_type"] == "table-file"
    logged = set().union(*(row for run in backend.trials.values() for row in run.rows))
    sections = section["panelBankConfig"]["sections"]
    for grid in (curves["panelBankSectionConfig"], by_technique["panelBankSectionConfig"], *sections[1:]):
        plots = panels(grid, "Run History Line Plot")
        plotted = {metric for plot in plots for metric in plot["metrics"]}
        assert {"train_loss", "valid_loss", "accuracy"} <= plotted <= logged
        assert {plot["xAxis"] for plot in plots} == {"_step"}
    assert {plot["groupBy"] for plot in panels(sections[2], "Run History Line Plot")} == {
        "factor_label_smoothing.value"
    }
    (bars,) = panels(sections[0], "Bar Chart")
    assert bars["metrics"] == ["score_accuracy"]
    assert all("score_accuracy" in run.summary for run in backend.trials.values())
    columns = section["runSets"][0]["runFeed"]["columnPinned"]
    assert {"tags:__ALL__", "config:factor_label_smoothing.value", "summary:score_accuracy"} <= set(columns)


def test_effects_with_verdicts_are_on_top(told: Path, backend: Loopback):
    assert report(told).exit_code == 0
    page, section = specs(backend)
    markdown = next(block["content"] for block in page["blocks"] if block["type"] == "markdown-block")
    first = section["panelBankConfig"]["sections"][0]
    assert first["isOpen"]
    assert panels(first, "Markdown Panel") == [{"value": markdown}]
    effects = pd.read_csv(told / "effects.csv")
    row = effects[effects["primary"] & (effects["metric"] == "accuracy")].iloc[0]
    (line,) = (line for line in markdown.splitlines() if line.startswith("| label_smoothing |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert float(cells[1].replace("−", "-")) == pytest.approx(100 * row["effect"], abs=0.006)
    assert cells[3].startswith(row["verdict"])
    assert "report.html" not in markdown  # a link that leads nowhere there


def test_the_addresses_are_told_and_hold_after_a_second_time(told: Path, backend: Loopback):
    first = report(told)
    assert first.stderr == ""
    files, addresses = first.stdout.splitlines()[:2], first.stdout.splitlines()[2:]
    assert [Path(file).name for file in files] == ["report.html", "report.md"]
    views = {told["type"]: (id_, told["name"]) for id_, told in backend.views.items()}
    at_report, at_view = addresses
    assert at_report == f"{backend.url}/{ENTITY}/ablate/reports/Effects-in-tracked--{views['runs'][0]}"
    assert at_view.startswith(f"{backend.url}/{ENTITY}/ablate?nw=")
    assert views["project-view"][1] == f"nw-{at_view.partition('=')[2]}-v"
    for view in backend.views.values():
        view["spec"] = view["spec"].replace("label_smoothing", "what was there before")
    again = report(told)
    assert again.stdout == first.stdout
    assert len(backend.views) == 2
    assert {told["type"]: id_ for id_, told in backend.views.items()} == {
        kind: id_ for kind, (id_, _) in views.items()
    }
    for view in backend.views.values():
        assert "what was there before" not in view["spec"]
        assert "label_smoothing" in view["spec"]


def test_pages_that_were_deleted_are_made_anew(told: Path, backend: Loopback):
    assert report(told).exit_code == 0
    gone = dict(backend.views)
    backend.views.clear()
    backend.views["another"] = {"type": "runs/draft", "name": "somebody's", "spec": "{}"}
    assert report(told).exit_code == 0
    assert len(backend.views) == 3
    made = [view for id_, view in backend.views.items() if id_ != "another"]
    assert {view["type"] for view in made} == {view["type"] for view in gone.values()}


def test_another_project_has_pages_of_its_own(told: Path, backend: Loopback, monkeypatch: pytest.MonkeyPatch):
    assert report(told).exit_code == 0
    monkeypatch.setenv("WANDB_PROJECT", "leaves")
    wandb.teardown()
    done = report(told)
    assert done.exit_code == 0, done.output
    assert [view["projectName"] for view in backend.views.values()] == [
        "ablate",
        "ablate",
        "leaves",
        "leaves",
    ]


def refused(study: Path) -> str:
    """The one sentence of a command that could not; the report in the folder was made all the same."""
    (study / "report.md").unlink()
    done = report(study)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (study / "report.md").is_file()
    return done.stderr


def test_a_study_that_was_not_sent(study: Path, backend: Loopback):
    sentence = refused(study)
    assert f"{study}: W&B has not been told of this study; `ablate sync {study}`" in sentence
    assert not (study / "wandb").exists()
    Notes(study)  # it was sent somewhere else
    assert "`ablate sync" in refused(study)
    assert backend.views == {}


def test_without_a_key_nobody_is_asked_for_one(told: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    sentence = refused(told)
    assert "there is no API key" in sentence
    assert "wandb login" in sentence


def test_a_wrong_key(told: Path, backend: Loopback):
    backend.keys = set()
    sentence = refused(told)
    assert backend.url in sentence
    assert "does not accept the API key" in sentence
    assert "wandb login --relogin" in sentence


def test_no_network(told: Path, backend: Loopback):
    backend.stop()
    sentence = refused(told)
    assert f"{backend.url} cannot be reached" in sentence
    assert "WANDB_BASE_URL" in sentence


@pytest.mark.parametrize(
    "fault", [Fault("status", status=400, only="upsertView"), Fault("html", only="GetProjects")]
)
def test_w_and_b_breaks_down_in_the_middle(told: Path, backend: Loopback, fault: Fault):
    backend.fault = fault
    assert f"; `ablate report {told} --wandb` tries it again." in refused(told)
    assert backend.views == {}


def test_without_the_extra(told: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [*sys.modules]:
        if name.partition(".")[0] == "wandb_workspaces":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert (
        refused(told) == "--wandb: needs the package wandb-workspaces; `pip install 'ablate[workspaces]'`.\n"
    )
