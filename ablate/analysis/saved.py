"""What a study wrote in its folder, read back for a report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.analysis.outcomes import Outcomes, read_outcomes
from ablate.errors import AblateError

_WORDS = [
    "variant",
    "factor",
    "level",
    "contrast",
    "metric",
    "verdict",
    "status",
    "phase",
    "interval",
    "note",
]


@dataclass(frozen=True)
class StudyFiles:
    """What a study wrote, read back; what is None or empty here has no file, as in studies of before."""

    folder: Path
    plan: dict[str, Any]
    trials: pd.DataFrame
    effects: pd.DataFrame
    predictions: Path
    history: pd.DataFrame | None
    recipe: str | None
    details: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None
    machines: list[dict[str, Any]] = field(default_factory=list)
    thumbnails: dict[str, Path] = field(default_factory=dict)

    @property
    def interval_name(self) -> str:
        """What intervals are called: with looks, their confidence is that of the look."""
        return "interval" if self.plan.get("looks") else "95% interval"

    @property
    def confidence_name(self) -> str:
        """How sure the intervals are, in a sentence."""
        return "the confidence of its look" if self.plan.get("looks") else "95% confidence"

    @property
    def command(self) -> str:
        """What runs the recipe again as this study was run."""
        options = " --quick" if self.plan.get("quick") else ""
        if looks := self.plan.get("looks"):
            options += f" --until-decided --max-seeds {looks[-1]}"
        if self.plan.get("threads") and self.plan.get("device") == "cpu":
            options += f" --threads {self.plan['threads']}"
        return f"ablate run recipe.yaml{options}"

    @classmethod
    def read(cls, folder: Path) -> StudyFiles:
        """Raises AblateError that names the file that is missing or broken."""
        for name in ("plan.json", "trials.csv", "effects.csv", "predictions.parquet"):
            if not (folder / name).is_file():
                raise AblateError(
                    f"There is no {name} in {folder}; run the study first: `ablate run RECIPE`."
                )
        recipe = folder / "recipe.yaml"
        thumbnails = _read_json(folder / "thumbnails" / "index.json", {})
        return cls(
            folder=folder,
            plan=_read_json(folder / "plan.json"),
            trials=read_csv(folder / "trials.csv"),
            effects=read_csv(folder / "effects.csv").astype({"primary": bool}),
            predictions=folder / "predictions.parquet",
            history=_read_optional(folder / "history.csv"),
            recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else None,
            details=_read_optional(folder / "details.csv"),
            pairs=_read_optional(folder / "pairs.csv"),
            machines=_read_json(folder / "machine.json", []),
            thumbnails={item: folder / "thumbnails" / name for item, name in thumbnails.items()},
        )

    @property
    def metric(self) -> str:
        return self.plan["metric"]

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["status"] == "ok"] if "status" in self.trials else self.trials

    @property
    def classes(self) -> list[str]:
        """The classes' names; empty where the plan does not tell them."""
        return [str(name) for name in self.plan.get("classes", [])]

    @property
    def baseline(self) -> str:
        return str(self.plan.get("baseline", "baseline"))

    @cached_property
    def outcomes(self) -> Outcomes | None:
        """What the finished trials predicted on the validation split."""
        return read_outcomes(self.predictions, self.finished, len(self.classes))

    def validation_items(self) -> int:
        """The number of images that variants were compared on."""
        return len(self.outcomes.items) if self.outcomes else 0

    def test_predictions(self, variant: str) -> pd.DataFrame:
        """One variant's predictions of the test split; empty where there are none."""
        return pd.read_parquet(
            self.predictions, filters=[("split", "==", "test"), ("variant", "==", variant)]
        )


def _read_json(path: Path, missing: Any = None) -> Any:
    """What a JSON file holds; `missing` where there is none."""
    if missing is not None and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AblateError(f"{path} is not JSON ({error}); run the study again.") from error


def _read_optional(path: Path) -> pd.DataFrame | None:
    return read_csv(path) if path.is_file() else None


def read_csv(path: Path) -> pd.DataFrame:
    """A table of a study, in which the names of variants, levels and classes stay words.

    Raises AblateError when it is broken.
    """
    try:
        # a level may be called "None" or "nan": only an empty field is missing
        return pd.read_csv(path, dtype=dict.fromkeys(_WORDS, str), keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise AblateError(f"{path} cannot be read as a table ({error}); run the study again.") from error
