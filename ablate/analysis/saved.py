"""What a study wrote in its folder, read back for a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.errors import AblateError


@dataclass(frozen=True)
class StudyFiles:
    """What a study wrote, read back; `history` and `recipe` are None where their files are missing."""

    plan: dict[str, Any]
    trials: pd.DataFrame
    effects: pd.DataFrame
    predictions: Path
    history: pd.DataFrame | None
    recipe: str | None

    @classmethod
    def read(cls, folder: Path) -> StudyFiles:
        """Raises AblateError that names the file that is missing or broken."""
        for name in ("plan.json", "trials.csv", "effects.csv", "predictions.parquet"):
            if not (folder / name).is_file():
                raise AblateError(
                    f"There is no {name} in {folder}; run the study first: `ablate run RECIPE`."
                )
        recipe = folder / "recipe.yaml"
        try:
            plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise AblateError(
                f"{folder / 'plan.json'} is not JSON ({error}); run the study again."
            ) from error
        return cls(
            plan=plan,
            trials=_read_csv(folder / "trials.csv"),
            effects=_read_csv(folder / "effects.csv").astype({"primary": bool}),
            predictions=folder / "predictions.parquet",
            history=_read_csv(folder / "history.csv") if (folder / "history.csv").is_file() else None,
            recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else None,
        )

    @property
    def metric(self) -> str:
        return self.plan["metric"]

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["status"] == "ok"] if "status" in self.trials else self.trials

    def validation_items(self) -> int:
        """The number of images that variants were compared on."""
        table = pd.read_parquet(self.predictions, columns=["item"], filters=[("split", "==", "valid")])
        return int(table["item"].nunique())

    def test_predictions(self, variant: str) -> pd.DataFrame:
        """One variant's predictions of the test split; empty where there are none."""
        return pd.read_parquet(
            self.predictions, filters=[("split", "==", "test"), ("variant", "==", variant)]
        )


def _read_csv(path: Path) -> pd.DataFrame:
    names = ("variant", "factor", "level", "contrast", "metric", "verdict", "status", "phase")
    try:
        # a level may be called "None" or "nan": only an empty field is missing
        return pd.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise AblateError(f"{path} cannot be read as a table ({error}); run the study again.") from error
