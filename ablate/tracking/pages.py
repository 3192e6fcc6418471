"""What the W&B report and the saved view of a study show, as wandb-workspaces builds them; nothing is sent.

The runs are there: `described` says what they are called, `runs` what they log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.analysis.report import findings
from ablate.analysis.saved import StudyFiles
from ablate.tracking.described import Described, key_of

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Config, Report
    from wandb_workspaces.reports.v2.interface import BlockTypes, PanelTypes
    from wandb_workspaces.workspaces import Section, Workspace

_NO_CURVES = ("variant", "seed", "fold", "phase", "epoch", "seconds")
"""The columns of `history.csv` that are no curves."""
_MOST_LINES = 100
"""W&B draws no more lines in one plot."""


@dataclass(frozen=True)
class Shown:
    """What the pages show of a study.

    Args:
        group: The runs' group, which is the study's name.
        heading: The pages' name.
        findings: Effects and verdicts, in Markdown.
        curves: The keys of what is plotted over steps.
        score: The key of the study's metric in the runs' summaries.
        variants: How many there are.
        techniques: Those that are on in some trials and off in others.
        factors: The config keys of what the study varies.
    """

    group: str
    heading: str
    findings: str
    curves: list[str]
    score: str
    variants: int
    techniques: list[str]
    factors: list[str]

    @classmethod
    def read(cls, folder: Path, study: Described) -> Shown:
        """What is shown of the study in a folder.

        Raises:
            AblateError: A file of the study is missing or broken.
        """
        files = StudyFiles.read(folder)
        columns = [] if files.history is None else [str(name) for name in files.history]
        tags = [frozenset(trial.tags) for trial in study.trials]
        return cls(
            group=study.name,
            heading=f"Effects in {study.name}",
            findings="\n\n".join(filter(None, findings(files))),
            curves=[key_of(name) for name in columns if name not in _NO_CURVES],
            score=f"score_{key_of(files.metric)}",
            variants=len({trial.trial["variant"] for trial in study.trials}),
            techniques=sorted(set().union(*tags) - tags[0].intersection(*tags)),
            factors=[key_of(f"factor_{name}") for name in study.plan["factors"]],
        )

    @property
    def lines(self) -> int:
        """How many lines a plot has to have room for."""
        return min(_MOST_LINES, max(10, self.variants))


def report(shown: Shown, entity: str, project: str) -> Report:
    """The W&B report of a study, to be saved in a project."""
    from wandb_workspaces.reports import v2 as wr

    return wr.Report(
        project=project,
        entity=entity,
        title=shown.heading,
        description=f"The study {shown.group}, as `ablate report --wandb` wrote it.",
        blocks=_blocks(shown),
        width="fluid",
    )


def _blocks(shown: Shown) -> list[BlockTypes]:
    """Effects, then curves by variant, then for each technique the trials with and without it."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2 as wr

    trials = (expr.Metric("Group") == shown.group, expr.Metric("JobType") == "trial")
    study = expr.And(expr.Metric("Group") == shown.group, expr.Metric("JobType") == "study")
    blocks: list[BlockTypes] = [
        wr.MarkdownBlock(shown.findings),
        wr.PanelGrid(runsets=[wr.Runset(name="study", filters=study)], panels=_effects(), hide_run_sets=True),
        wr.H2("Curves"),
        wr.P("The mean of each variant's trials, ± its standard deviation, over training steps."),
        wr.PanelGrid(
            runsets=[wr.Runset(name="trials", filters=expr.And(*trials), groupby=["config.variant"])],
            panels=_curves(shown),
        ),
    ]
    for name in shown.techniques:
        runsets = [
            wr.Runset(name=title, filters=expr.And(*trials, chosen), groupby=["config.study"])
            for title, chosen in (
                (f"with {name}", expr.Tags().isin([name])),
                (f"without {name}", expr.Tags().notin([name])),
            )
        ]
        blocks += [wr.H2(f"With and without {name}"), wr.PanelGrid(runsets=runsets, panels=_curves(shown))]
    return blocks


def view(shown: Shown, entity: str, project: str) -> Workspace:
    """The workspace view of a study: its group by variant; the first columns are what to filter by."""
    from wandb_workspaces import expr
    from wandb_workspaces import workspaces as ws

    columns = [
        "tags:__ALL__",
        *(f"config:{factor}.value" for factor in shown.factors),
        f"summary:{shown.score}",
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=shown.heading,
        sections=_sections(shown),
        settings=ws.WorkspaceSettings(max_runs=shown.lines),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("Group") == shown.group),
            groupby=[expr.Config("variant")],
            pinned_columns=columns,
        ),
    )


def _sections(shown: Shown) -> list[Section]:
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    by_factor = [
        panel for factor in shown.factors for panel in _curves(shown, wr.Config(factor), f" by {factor}")
    ]
    return [
        ws.Section(
            name="Effects",
            panels=[wr.MarkdownPanel(shown.findings), *_effects(), _scores(shown)],
            is_open=True,
            pinned=True,
        ),
        ws.Section(name="Curves by variant", panels=_curves(shown), is_open=True),
        ws.Section(name="Curves by factor", panels=by_factor),
    ]


def _effects() -> list[PanelTypes]:
    """The forest plot and the table of effects, of the study's own run."""
    from wandb_workspaces.reports import v2 as wr

    return [
        wr.MediaBrowser(title="Effects", media_keys=["forest_plot"], layout=wr.Layout(w=24, h=14)),
        wr.WeavePanelSummaryTable(table_name="effects", layout=wr.Layout(w=24, h=10)),
    ]


def _curves(shown: Shown, by: Config | None = None, title: str = "") -> list[PanelTypes]:
    """A plot of each curve, grouped by a config key, else as the runs are."""
    from wandb_workspaces.reports import v2 as wr

    return [
        wr.LinePlot(
            title=curve + title,
            x="Step",
            y=[curve],
            groupby=by,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=shown.lines,
        )
        for curve in shown.curves
    ]


def _scores(shown: Shown) -> PanelTypes:
    """The study's metric, a bar for each variant."""
    from wandb_workspaces.reports import v2 as wr

    return wr.BarPlot(
        title=f"{shown.score} by variant",
        metrics=[shown.score],
        groupby=wr.Config("variant"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_bars_to_show=shown.lines,
    )
