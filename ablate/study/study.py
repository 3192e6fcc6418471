"""`Study`: a study's folder, as tables, effects, plots and trained learners. Works from files alone."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from ablate.errors import AblateError
from ablate.files import replace_file, sweep
from ablate.recipe.problems import suggestion
from ablate.sealed import checksum, sync
from ablate.study.graph import Plan, Stage, Trial
from ablate.study.store import Store

OUTPUTS = ("trials.csv", "predictions.parquet", "history.csv", "effects.csv", "report.md")
PLOTS = ("plots/effects.svg", "plots/curves.svg")
FINISHED, FAILURES = ".finished", "failures.json"
SKIPPED = "a stage before it failed"
"""The reason in `failures.json` of what was not tried."""

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner
    from matplotlib.figure import Figure

    from ablate.recipe.recipe import Recipe


class Study:
    """A study that has been run, or is being run.

    Args:
        folder: `<out>/<name>`.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """The study in a folder.

        Raises:
            AblateError: There is none.
        """
        study = cls(folder)
        if not (study.folder / "plan.json").is_file():
            raise AblateError(f"{folder}: is no study (it has no plan.json); `ablate run RECIPE` makes one.")
        return study

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r})"

    @property
    def plan(self) -> dict[str, Any]:
        """`plan.json`."""
        return json.loads((self.folder / "plan.json").read_text())

    @property
    def threads(self) -> int | None:
        """The torch threads that the study was begun with; None before that."""
        try:
            return int(self.plan["threads"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def trials(self) -> pd.DataFrame:
        """`trials.csv`: a row per trial."""
        import pandas as pd

        return pd.read_csv(self._file("trials.csv"))

    @property
    def history(self) -> pd.DataFrame:
        """`history.csv`: a row per trial, phase and epoch."""
        import pandas as pd

        return pd.read_csv(self._file("history.csv"))

    def predictions(self) -> pd.DataFrame:
        """`predictions.parquet`: a row per trial and item."""
        import pandas as pd

        return pd.read_parquet(self._file("predictions.parquet"))

    def effects(self) -> pd.DataFrame:
        """A row per contrast and metric, with intervals and verdicts; see `ablate.effects`."""
        import pandas as pd

        return pd.read_csv(self._file("effects.csv"))

    def plot(self) -> Figure:
        """The effects with their intervals, on the study's metric."""
        from ablate.analysis.plots import forest

        plan = self.plan
        return forest(self.effects(), plan["metric"], plan["smallest_effect"])

    def learner(self, variant: str = "baseline", seed: int = 0, fold: int = 0) -> Learner:
        """The trained learner of a trial, rebuilt from the study's recipe and the stored weights.

        Raises:
            AblateError: There is no such trial, or it is not finished.
        """
        from ablate.study.rebuild import trained_learner

        return trained_learner(self, variant, seed, fold)

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise AblateError(
                f"{path}: is not there yet; the study is not finished. `ablate run` goes on with it."
            )
        return path

    def stored_plan(self) -> Plan:
        """The plan that the study was run by."""
        from ablate.analysis.contrasts import Contrast

        content = self.plan
        trials = [Trial(**{**trial, "fits": tuple(trial["fits"])}) for trial in content["trials"]]
        stages = {
            key: Stage(**{**stage, "parents": tuple(stage["parents"])})
            for key, stage in content["stages"].items()
        }
        contrasts = [Contrast.from_dict(contrast) for contrast in content["contrasts"]]
        return Plan(trials, stages, contrasts, content["factors"], content["versions"])

    def is_finished(self, plan: str) -> bool:
        """Whether the outputs of exactly this plan, the text of a `plan.json`, are all there."""
        try:
            marked = (self.folder / FINISHED).read_text()
        except OSError:
            return False
        return marked == _mark(plan) and all((self.folder / name).is_file() for name in OUTPUTS)

    @property
    def seems_finished(self) -> bool:
        """Whether the outputs are those of the plan in the folder."""
        return (self.folder / FINISHED).is_file()

    @property
    def is_unfinished(self) -> bool:
        """Whether the same command has still something to do: a trial is pending."""
        return bool((self.trials.status == "pending").any())

    def begin(self, recipe: Recipe, plan: str) -> None:
        """Write what the study is; outputs of another plan go, so that the folder never holds a mixture."""
        yaml, text = YAML(), io.StringIO()
        yaml.dump(recipe.to_dict(), text)
        sweep(self.folder)
        (self.folder / FINISHED).unlink(missing_ok=True)
        file = self.folder / "plan.json"
        if not file.is_file() or file.read_bytes() != plan.encode():
            for name in (*OUTPUTS, *PLOTS, FAILURES):
                (self.folder / name).unlink(missing_ok=True)
        self.describe(plan)
        replace_file(self.folder / "recipe.yaml", lambda path: path.write_text(text.getvalue()))

    def describe(self, plan: str) -> None:
        """Write `plan.json`."""
        replace_file(self.folder / "plan.json", lambda path: path.write_text(plan))

    def finish(self) -> None:
        """Mark the outputs as those of the plan, unless a trial failed: the same command tries it again."""
        if set(self.trials.status) & {"pending", "failed"}:
            return
        for path in (self.folder / name for name in (*OUTPUTS, *PLOTS)):
            if path.is_file():
                sync(path)
        sync(self.folder)
        mark = _mark((self.folder / "plan.json").read_text())
        replace_file(self.folder / FINISHED, lambda path: path.write_text(mark))

    def collect(self, plan: Plan, store: Store, failed: Mapping[str, str]) -> None:
        """Write every output that follows from the stages that are finished."""
        from ablate.study import tables

        predictions = tables.predictions_table(plan, store)
        trials = tables.trials_table(plan, store, failed, predictions)
        history = tables.history_table(plan, store)
        self._write_failures(failed)
        replace_file(self.folder / "trials.csv", lambda path: trials.to_csv(path, index=False))
        replace_file(self.folder / "history.csv", lambda path: history.to_csv(path, index=False))
        if len(predictions):
            replace_file(self.folder / "predictions.parquet", lambda path: predictions.to_parquet(path))
            self.analyse()

    def failures(self) -> dict[str, str]:
        """Why stages failed in the last run, by key."""
        path = self.folder / FAILURES
        return json.loads(path.read_text()) if path.is_file() else {}

    def _write_failures(self, failed: Mapping[str, str]) -> None:
        if failed:
            content = json.dumps(dict(failed), indent=1)
            replace_file(self.folder / FAILURES, lambda path: path.write_text(content))
        else:
            (self.folder / FAILURES).unlink(missing_ok=True)

    def analyse(self) -> None:
        """Write `effects.csv` and the report anew from the tables."""
        from ablate.analysis.contrasts import Contrast
        from ablate.analysis.effects import effects
        from ablate.analysis.report import write_report

        plan = self.plan
        found = effects(
            self.trials,
            self.predictions(),
            contrasts=[Contrast.from_dict(contrast) for contrast in plan["contrasts"]],
            metric=plan["metric"],
            smallest_effect=plan["smallest_effect"],
        )
        replace_file(self.folder / "effects.csv", lambda path: found.to_csv(path, index=False))
        write_report(self.folder)

    def scores(self, plan: Plan, store: Store, predict: str) -> dict[str, Any]:
        """Variant, seed and metrics of the trials that one prediction stage belongs to, for the display."""
        from ablate.analysis.metrics import METRICS
        from ablate.study.tables import predictions_of

        if store.status(predict) != "ok":
            return {}
        table = predictions_of(store, predict)
        scores = {name: metric.score(table) for name, metric in METRICS.items()}
        return {"variants": [t.variant for t in plan.trials if t.predict == predict], **scores}

    def best_variant(self, plan: Plan, store: Store, metric: str) -> str | None:
        """The variant with the best mean of a metric over its finished trials; None while there is none."""
        from ablate.analysis.names import METRIC_NAMES
        from ablate.study import tables

        predictions = tables.predictions_table(plan, store)
        if not len(predictions):
            return None
        means = (
            tables.trials_table(plan, store, {}, predictions).groupby("variant", sort=False)[metric].mean()
        )
        return str(means.idxmax() if METRIC_NAMES[metric] else means.idxmin())

    def trial(self, variant: str, seed: int, fold: int) -> Trial:
        """One trial of the stored plan.

        Raises:
            AblateError: There is no such trial.
        """
        trials = self.stored_plan().trials
        variants = list(dict.fromkeys(trial.variant for trial in trials))
        if variant not in variants:
            raise AblateError(f"variant: there is no {variant!r}{suggestion(variant, variants)}")
        for trial in trials:
            if (trial.variant, trial.seed, trial.fold) == (variant, seed, fold):
                return trial
        raise AblateError(f"seed, fold: {variant} has no trial with seed {seed} and fold {fold}.")


def _mark(plan: str) -> str:
    """What tells one plan from another: all of a `plan.json` but the place of the store, which may move."""
    return checksum(json.dumps(json.loads(plan) | {"store": ""}, sort_keys=True).encode())
