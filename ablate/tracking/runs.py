"""The runs at W&B, through wandb's own client: one for each trial, and one for the study itself."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb
from PIL import Image

from ablate.analysis.names import higher_is_better
from ablate.tracking.described import Described, TrialRun, key_of
from ablate.tracking.outputs import confused, shown_items
from ablate.tracking.rows import Row

if TYPE_CHECKING:
    import pandas as pd

    from ablate.tracking.client import Client

MOST_CLASSES = 20
"""Up to so many classes there is a confusion matrix; above, a table of the pairs that are confused most."""
_NO_METRICS = {
    "lr": "none",
    "lr_body": "none",
    "mom": "none",
    "epoch": "last",
    "phase": "last",
}
"""The summary rules of what is no metric."""
ARTIFACT = ("trials.csv", "predictions.parquet", "effects.csv", "history.csv", "recipe.yaml", "plan.json")
"""The study's files that go into its artifact."""


class OpenTrial:
    """A trial's run while it is open.

    Args:
        client: Opens it.
        trial: The trial.
        group: The study's name.
        notes: The run's notes.
    """

    def __init__(self, client: Client, trial: TrialRun, group: str, notes: str):
        self.trial = trial
        self.run = client.open(
            id=trial.id,
            name=trial.name,
            job_type="trial",
            group=group,
            tags=trial.tags,
            config=trial.config,
            notes=notes,
        )
        self.next = self.run.starting_step
        """The step of the first row that W&B has not got."""
        self.rows: Sequence[Row] = ()
        """All that there are."""
        self._defined: set[str] = set()

    def send(self, rows: Sequence[Row]) -> None:
        """Send the rows that were not sent before; each one's place is its step."""
        self.rows = rows
        for step in range(self.next, len(rows)):
            self._log({key_of(name): value for name, value in rows[step].items()}, step)

    def pause(self) -> None:
        """End the run of a trial that has been trained, until more is known of it."""
        self.run.summary.update(best_and_last(self.rows))
        self.run.finish(exit_code=0)

    def close(
        self,
        status: str,
        scores: Mapping[str, float],
        samples: Mapping[str, Path],
        predictions: pd.DataFrame | None,
        classes: list[str],
        weights: Path | None = None,
    ) -> None:
        """Send what is known at the end, and end the run; a trial that may go on later gets no last row.

        Args:
            status: The trial's.
            scores: Its metrics and seconds.
            samples: Pictures of some training images, by phase.
            predictions: Of the validation split.
            classes: Their names.
            weights: The folder of the weights that predict, to go with it.
        """
        if status in ("ok", "diverged") and self.next == len(self.rows):  # else it was sent before
            media: Row = {f"samples_{key_of(name)}": wandb.Image(str(path)) for name, path in samples.items()}
            if predictions is not None:
                media |= _predicted(predictions, classes)
            if media:
                self._log(media, self.next)
        self.run.summary.update({key_of(name): value for name, value in scores.items()})
        self.run.summary.update(best_and_last(self.rows) | {"status": status})
        if weights is not None:
            artifact = wandb.Artifact(f"weights-{self.trial.id}", type="model", description=self.trial.name)
            artifact.add_dir(str(weights))
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if status == "ok" else 1)

    def _log(self, row: Row, step: int) -> None:
        for name in row.keys() - self._defined:
            self._defined.add(name)
            if isinstance(row[name], (int, float, str)):
                self.run.define_metric(name, summary=_rule(name))
        self.run.log(row, step=step, commit=True)
        self.next = step + 1


def send_study(client: Client, study: Described, state: str, finished: bool) -> tuple[wandb.Run, int]:
    """Send the study's own run: effects, forest plot, report and tables; nothing of it twice.

    Args:
        client: Opens the run.
        study: The study.
        state: A hash of what there is to send.
        finished: Whether every trial has ended well.

    Returns:
        The run, and how many rows it has now.
    """
    folder = client.folder
    run = client.open(
        id=study.study_id,
        name=study.name,
        job_type="study",
        group=study.name,
        tags=(),
        config=study.config,
        notes=f"Report: {folder / 'report.html'}",
    )
    rows = run.starting_step
    if run.summary.get("state") != state or rows < run.summary.get("rows", 0):
        if effects := _effects(folder):
            run.log(effects, step=rows, commit=True)
            rows += 1
        artifact = wandb.Artifact(f"study-{study.study_id}", type="study", description=study.name)
        for name in ARTIFACT:
            if (folder / name).is_file():
                artifact.add_file(str(folder / name), name=name)
        run.log_artifact(artifact)
        run.summary.update({"state": state, "rows": rows})
    run.finish(exit_code=0 if finished else 1)
    return run, rows


def _effects(folder: Path) -> Row:
    """The effects of a study as W&B shows them; empty where there are none."""
    from ablate.study.study import Study

    if not (folder / "effects.csv").is_file():
        return {}
    study = Study(folder)
    effects = study.effects()
    image = io.BytesIO()
    study.plot().savefig(image, format="png", dpi=150)
    image.seek(0)
    found: Row = {
        "effects": _table(list(effects.columns), effects.to_numpy(object).tolist()),
        "forest_plot": wandb.Image(Image.open(image)),
    }
    if (folder / "report.html").is_file():
        found["report"] = wandb.Html(str(folder / "report.html"), inject=False)
    return found


def best_and_last(rows: Sequence[Row]) -> Row:
    """The best and the last of each metric, for W&B's summary, which forgets the best when a run goes on.

    Args:
        rows: All of a trial.

    Returns:
        By name, `min` or `max`, by the metric's direction, and `last`; of values that are finite.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in _NO_METRICS and isinstance(value, (int, float)) and math.isfinite(value):
                values.setdefault(name, []).append(value)
    found: Row = {}
    for name, known in values.items():
        best = min if _lower_is_better(name) else max
        found[key_of(name)] = {best.__name__: best(known), "last": known[-1]}
    return found


def _rule(name: str) -> str:
    """The summary rule of a column of the history."""
    if name in _NO_METRICS:
        return _NO_METRICS[name]
    return "min,last" if _lower_is_better(name) else "max,last"


def _lower_is_better(name: str) -> bool:
    return "loss" in name or "error" in name or name == "epoch_seconds" or not higher_is_better(name)


def _table(columns: list[str], rows: Iterable[Iterable[Any]]) -> wandb.Table:
    return wandb.Table(columns=[*columns], data=[*rows])


def _predicted(table: pd.DataFrame, classes: list[str]) -> Row:
    shown = shown_items(table, classes)
    rows = [list(row) for row in zip(*shown.values(), strict=True)]
    found: Row = {"predictions": _table(list(shown), rows)}
    if len(classes) <= MOST_CLASSES:
        found["confusion_matrix"] = wandb.plot.confusion_matrix(
            y_true=table["target"].tolist(), preds=table["pred"].tolist(), class_names=classes
        )
    else:
        columns = ["true", "predicted", "items", "share of the true class"]
        found["confused_classes"] = _table(columns, confused(table, classes))
    return found
