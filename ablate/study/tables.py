"""What a study writes: trials, predictions and history, collected from the stage store."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pandas as pd

from ablate import sealed
from ablate.analysis.metrics import metric_values
from ablate.analysis.names import DEFAULT_METRICS
from ablate.study.graph import Plan, Trial
from ablate.study.store import Store


def status_of(trial: Trial, store: Store, failed: Mapping[str, str]) -> str:
    """`ok`, `diverged`, `failed` or `pending`."""
    states = [store.status(key) for key in (*trial.fits, trial.predict)]
    if "diverged" in states:
        return "diverged"
    if states[-1] == "ok":
        return "ok"
    return "failed" if failed.keys() & {*trial.fits, trial.predict} else "pending"


def predictions_of(store: Store, key: str) -> pd.DataFrame:
    """What a finished stage predicted, as it was written.

    Raises:
        Damaged: It is not any more.
    """
    return pd.read_parquet(io.BytesIO(sealed.read(store.folder(key), "predictions.parquet")))


def predictions_table(plan: Plan, store: Store) -> pd.DataFrame:
    """A row per finished trial and item, validation first, then what was tested."""
    parts = []
    for split in ("valid", "test"):
        for trial in plan.trials:
            key = trial.predict if split == "valid" else trial.test
            if key is not None and store.status(key) == "ok":
                part = predictions_of(store, key)
                for name, value in (("split", split), ("fold", trial.fold), ("seed", trial.seed)):
                    part.insert(0, name, value)
                part.insert(0, "variant", trial.variant)
                parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def history_table(plan: Plan, store: Store) -> pd.DataFrame:
    """A row per trial, phase and epoch; phases that trials share stand in the history of each."""
    parts = []
    for trial in plan.trials:
        for key in trial.fits:
            if store.has(key):
                part = pd.read_csv(io.BytesIO(sealed.read(store.folder(key), "history.csv")))
                for name, value in (("fold", trial.fold), ("seed", trial.seed), ("variant", trial.variant)):
                    part.insert(0, name, value)
                parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def trials_table(
    plan: Plan,
    store: Store,
    failed: Mapping[str, str],
    predictions: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A row per trial: its levels, its metrics on the validation split, its time and status."""
    rows = []
    for trial in plan.trials:
        done = [key for key in trial.fits if store.has(key)]
        rows.append(
            {"variant": trial.variant, "seed": trial.seed, "fold": trial.fold}
            | {factor: trial.levels.get(factor, "") for factor in _factors(plan)}
            | {
                "train_seconds": round(sum(store.result(key)["seconds"] for key in done), 3),
                "status": status_of(trial, store, failed),
            }
        )
    table = pd.DataFrame(rows)
    if len(predictions) and (predictions["split"] == "valid").any():
        values = metric_values(predictions, metrics, classes=classes)
        table = table.merge(values, on=["variant", "seed", "fold"], how="left")
    else:
        table = table.reindex(columns=[*table.columns, *metrics])
    last = ["train_seconds", "status"]
    return table[[*(column for column in table.columns if column not in last), *last]]


def _factors(plan: Plan) -> list[str]:
    return plan.factors or list(dict.fromkeys(name for trial in plan.trials for name in trial.levels))
