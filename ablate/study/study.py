"""`Study`: a study's folder, as tables, effects, plots and trained learners. Works from files alone."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError
from ablate.files import replace_file, sweep
from ablate.recipe.problems import suggestion
from ablate.recipe.technique_files import write_recipe
from ablate.sealed import checksum, sync
from ablate.study import local_log, weights
from ablate.study.graph import Plan, Stage, Trial
from ablate.study.machine import note_machine
from ablate.study.store import Store

OUTPUTS = ("trials.csv", "predictions.parquet", "history.csv", "effects.csv", "report.html", "report.md")
OTHERS = ("details.csv", "pairs.csv", "plots/effects.svg", "plots/curves.svg", "plots/confusion.svg")
"""What a finished study may lack: those of before do, or there is nothing of the kind."""
FINISHED, FAILURES = ".finished", "failures.json"
SKIPPED_IMAGES = "skipped.csv"
"""Which images are left out, and why."""
SKIPPED = "a stage before it failed"
"""The reason in `failures.json` of what was not tried."""

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner
    from matplotlib.figure import Figure

    from ablate.data.items import Item
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

    def _repr_html_(self) -> str:
        from ablate.study.show_study import study_html

        return study_html(self)

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
        from ablate.analysis.saved import read_csv

        return read_csv(self._file("trials.csv"))

    @property
    def history(self) -> pd.DataFrame:
        """`history.csv`: a row per trial, phase and epoch."""
        from ablate.analysis.saved import read_csv

        return read_csv(self._file("history.csv"))

    def predictions(self) -> pd.DataFrame:
        """`predictions.parquet`: a row per trial and item."""
        import pandas as pd

        return pd.read_parquet(self._file("predictions.parquet"))

    def effects(self) -> pd.DataFrame:
        """A row per contrast and metric, with intervals and verdicts; see `ablate.effects`.

        Notebooks show it as a table for people.
        """
        from ablate.analysis.effects_table import EffectsTable
        from ablate.analysis.saved import read_csv

        return EffectsTable(read_csv(self._file("effects.csv")))

    def details(self) -> pd.DataFrame:
        """What stands behind each row of `effects`; see `ablate.analysis.effects.Analysis`."""
        from ablate.analysis.saved import read_csv

        return read_csv(self._file("details.csv"))

    def plot(self) -> Figure:
        """The effects with their intervals, on the study's metric; notebooks show it as SVG."""
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

    def predict(
        self,
        images: str | Path,
        variant: str | None = None,
        *,
        root: str | Path | None = None,
        tta: bool = False,
        sample: str | Path | None = None,
        **asking: Any,
    ) -> pd.DataFrame:
        """What a variant's networks predict of new images: the mean of their probabilities.

        Args:
            images: A folder of images, or a CSV with the recipe's image column.
            variant: Default the best, or the only one.
            root: The folder of a CSV's images.
            tta: Test-time augmentation, where the variant has none.
            sample: A sample submission; the result then has its columns, ids and order.
            asking: Further options, as of `ablate.prediction.asked.Asking`.

        Returns:
            A row per image: `id`, `label`, and `p_<class>` for each class.

        Raises:
            AblateError: There is no such variant, or weights, images or the sample cannot be used.
        """
        from ablate.prediction.asked import Asking, predict_images
        from ablate.prediction.networks import find_ensemble
        from ablate.prediction.submission import Sample

        ensemble = find_ensemble(self.folder, variant)
        return predict_images(
            ensemble.with_tta() if tta else ensemble,
            images,
            Asking(**{"note": print, **asking}),
            root=root,
            sample=None if sample is None else Sample.read(sample),
        )

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

    def begin(self, recipe: Recipe, plan: str, skipped: Mapping[str, str]) -> None:
        """Write what the study is; outputs of another plan go, so that the folder never holds a mixture.

        `skipped` has why images are left out, by item.
        """
        sweep(self.folder)
        (self.folder / FINISHED).unlink(missing_ok=True)
        file = self.folder / "plan.json"
        if not file.is_file() or file.read_bytes() != plan.encode():
            for name in (*OUTPUTS, *OTHERS, FAILURES):
                (self.folder / name).unlink(missing_ok=True)
            for name in ("thumbnails", local_log.FOLDER, weights.FOLDER):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self.describe(plan)
        note_machine(self.folder)
        self._list_skipped(skipped)
        write_recipe(recipe, self.folder)

    def _list_skipped(self, skipped: Mapping[str, str]) -> None:
        path = self.folder / SKIPPED_IMAGES
        if not skipped:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("item", "reason"), *skipped.items()])
        replace_file(path, lambda to: to.write_text(text.getvalue(), encoding="utf-8"))

    def describe(self, plan: str) -> None:
        """Write `plan.json`."""
        replace_file(self.folder / "plan.json", lambda path: path.write_text(plan))

    def finish(self) -> None:
        """Mark the outputs as those of the plan, unless a trial failed: the same command tries it again."""
        if set(self.trials.status) & {"pending", "failed"}:
            return
        for path in (self.folder / name for name in (*OUTPUTS, *OTHERS)):
            if path.is_file():
                sync(path)
        sync(self.folder)
        mark = _mark((self.folder / "plan.json").read_text())
        replace_file(self.folder / FINISHED, lambda path: path.write_text(mark))

    def collect(
        self, plan: Plan, store: Store, failed: Mapping[str, str], items: Sequence[Item] | None = None
    ) -> None:
        """Write every output that follows from the stages that are finished.

        `items` are all of the study: with them, the report gets new thumbnails.
        """
        from ablate.study import tables

        predictions = tables.predictions_table(plan, store)
        trials = tables.trials_table(plan, store, failed, predictions, *self._measured())
        history = tables.history_table(plan, store)
        self._write_failures(failed)
        replace_file(self.folder / "trials.csv", lambda path: trials.to_csv(path, index=False))
        replace_file(self.folder / "history.csv", lambda path: history.to_csv(path, index=False))
        if (trials.status == "ok").any():
            replace_file(self.folder / "predictions.parquet", lambda path: predictions.to_parquet(path))
            self.analyse(items)

    def _measured(self) -> tuple[Sequence[str], Sequence[str]]:
        """The metrics of the study, and the names of its classes."""
        from ablate.analysis.names import measured

        plan = self.plan
        # a study of before does not tell its metrics: there were the usual ones and its own
        return plan.get("metrics") or measured(plan["metric"]), plan["classes"]

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

    def analyse(self, items: Sequence[Item] | None = None) -> None:
        """Write `effects.csv`, `details.csv`, `pairs.csv` and the report anew from the tables.

        The thumbnails of the report are written where `items` gives the images, and else kept.
        """
        from ablate.analysis.contrasts import Contrast
        from ablate.analysis.effects import analyse
        from ablate.analysis.report import write_report
        from ablate.study.thumbnails import write_thumbnails

        plan = self.plan
        found = analyse(
            self.trials,
            self.predictions(),
            contrasts=[Contrast.from_dict(contrast) for contrast in plan["contrasts"]],
            metrics=self._measured()[0],
            metric=plan["metric"],
            smallest_effect=plan["smallest_effect"],
            looks=plan.get("looks"),
            classes=plan["classes"],
            n_folds=plan.get("split_folds"),
        )
        for name, table in vars(found).items():
            replace_file(self.folder / f"{name}.csv", partial(table.to_csv, index=False))
        if items is not None:
            write_thumbnails(self.folder, items)
        write_report(self.folder)

    def scores(self, plan: Plan, store: Store, predict: str) -> dict[str, Any]:
        """The `variants` of a prediction stage, their `metric` and `score`, for the display."""
        from ablate.analysis.metrics import find_metric
        from ablate.analysis.predicted import Predicted
        from ablate.study.tables import predictions_of

        if store.status(predict) != "ok":
            return {}
        content = self.plan
        score = find_metric(content["metric"], content["classes"]).score
        predicted = Predicted.read(predictions_of(store, predict))
        if not len(predicted):  # there is no validation set
            return {}
        return {
            "variants": [trial.variant for trial in plan.trials if trial.predict == predict],
            "metric": content["metric"],
            "score": score(predicted),
        }

    def best_variant(self, plan: Plan, store: Store, metric: str) -> str | None:
        """Which variant to test, see `ablate.analysis.winner`; None while no trial is finished."""
        from ablate.analysis.winner import best_or_only
        from ablate.study import tables

        predictions = tables.predictions_table(plan, store)
        return best_or_only(tables.trials_table(plan, store, {}, predictions, *self._measured()), metric)

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
