"""`Study`: a study's folder, as tables, effects, plots and trained learners. Works from files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError
from ablate.recipe.problems import suggestion
from ablate.study.graph import Plan, Stage, Trial
from ablate.study.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner
    from matplotlib.figure import Figure


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

    def is_complete(self, plan: Plan) -> bool:
        """Whether the outputs of exactly this plan are all there."""
        names = (
            "recipe.yaml",
            "trials.csv",
            "predictions.parquet",
            "history.csv",
            "effects.csv",
            "report.md",
        )
        if not all((self.folder / name).is_file() for name in names):
            return False
        stored = self.plan
        return (
            set(stored["stages"]) == set(plan.stages)
            and stored["contrasts"] == [contrast.to_dict() for contrast in plan.contrasts]
            and len(stored["trials"]) == len(plan.trials)
            and set(self.trials.status) == {"ok"}
        )

    def collect(self, plan: Plan, store: Store, failed: Mapping[str, str]) -> None:
        """Write every output that follows from the stages that are finished."""
        from ablate.study import tables

        predictions = tables.predictions_table(plan, store)
        trials = tables.trials_table(plan, store, failed, predictions)
        history = tables.history_table(plan, store)
        tables.replace_file(self.folder / "trials.csv", lambda path: trials.to_csv(path, index=False))
        tables.replace_file(self.folder / "history.csv", lambda path: history.to_csv(path, index=False))
        if len(predictions):
            tables.replace_file(
                self.folder / "predictions.parquet", lambda path: predictions.to_parquet(path)
            )
            self.analyse()

    def analyse(self) -> None:
        """Write `effects.csv` and the report anew from the tables."""
        from ablate.analysis.contrasts import Contrast
        from ablate.analysis.effects import effects
        from ablate.analysis.report import write_report
        from ablate.study.tables import replace_file

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
        import pandas as pd

        from ablate.analysis.metrics import METRICS

        if not store.has(predict):
            return {}
        table = pd.read_parquet(store.folder(predict) / "predictions.parquet")
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
