"""Effects as words and numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablate.analysis.effects import effects
from ablate.analysis.wording import answer, effects_rows, interval, level, signed

Tables = tuple[pd.DataFrame, pd.DataFrame]


def frame_of(*rows: tuple[str, str, float, str]) -> pd.DataFrame:
    """Primary effects on accuracy from factor, level, effect and verdict, with intervals of ± a point."""
    return pd.DataFrame(
        [
            {
                "factor": factor,
                "level": level,
                "contrast": f"baseline+{factor}={level} − baseline",
                "metric": "accuracy",
                "n_seeds": 5,
                "effect": effect,
                "ci_low": effect - 0.01,
                "ci_high": effect + 0.01,
                "verdict": verdict,
                "primary": True,
            }
            for factor, level, effect, verdict in rows
        ]
    )


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        (0.0132, "accuracy", "+1.32"),
        (-0.0132, "balanced_accuracy", "−1.32"),
        (0.0, "accuracy", "+0.00"),
        (-0.0, "accuracy", "+0.00"),
        (-0.00001, "accuracy", "+0.00"),
        (-0.25, "log_loss", "−0.2500"),
        (math.nan, "accuracy", "–"),
    ],
)
def test_differences_have_a_sign_and_the_unit_of_people(value: float, metric: str, expected: str):
    assert signed(value, metric) == expected


def test_levels_and_intervals():
    assert level(0.881, "accuracy") == "88.10"
    assert level(math.nan, "accuracy") == "–"
    assert interval(0.004, 0.022, "accuracy") == "[+0.40, +2.20]"
    assert interval(math.nan, math.nan, "accuracy") == "–"


def test_rows_are_the_metrics_own_and_exploratory_contrasts_say_so(study: Tables):
    frame = effects(*study)
    frame.loc[frame["factor"] == "tta", "primary"] = False
    rows = effects_rows(frame, "log_loss")
    assert [row[0] for row in rows] == ["baseline+mixup − baseline", "baseline+tta − baseline"]
    assert rows[0][3] == "helps"
    assert rows[1][3].endswith(" (exploratory)")
    assert rows[0][1] == signed(frame["effect"][2], "log_loss")


def test_the_answer_groups_factors_by_verdict():
    frame = frame_of(
        ("mixup", "on", 0.02, "helps"),
        ("tta", "on", 0.03, "helps"),
        ("cutmix", "on", -0.02, "hurts"),
        ("reseed", "on", 0.0, "negligible"),
        ("smooth", "on", 0.01, "undecided"),
    )
    text = answer(frame, "accuracy", 0.005, 4280)
    assert text.startswith("On accuracy, with 5 seeds and 4,280 validation images: ")
    assert "**mixup** (+2.00 points, 95% interval +1.00 to +3.00) and **tta** (" in text
    assert ") help. **cutmix** (−2.00 points" in text
    assert ") hurts. **reseed**" in text
    assert "makes no difference that matters (less than 0.50 points either way). **smooth**" in text
    assert text.endswith("is undecided: this study cannot tell its effect from chance.")


def test_levels_of_a_factor_are_named_and_doubles_are_told_apart():
    text = answer(frame_of(("arch", "b", 0.02, "helps"), ("arch", "c", 0.02, "helps")), "accuracy", 0.005, 10)
    assert "**arch=b**" in text
    assert "**arch=c**" in text
    text = answer(frame_of(("x", "on", 0.02, "helps"), ("x", "on", -0.02, "hurts")), "accuracy", 0.005, 10)
    assert text.count("**baseline+x=on − baseline**") == 2


def test_the_answer_says_what_cannot_be_known():
    frame = frame_of(("mixup", "on", 0.02, "undecided"), ("tta", "on", math.nan, "undecided"))
    frame["n_seeds"] = [1, 0]
    frame.loc[0, ["ci_low", "ci_high"]] = math.nan
    text = answer(frame, "accuracy", 0.005, 10)
    assert "with 0 to 1 seeds" in text
    assert "+2.00 points, and one seed gives no interval" in text
    assert "no pair of trials finished" in text
    assert text.endswith("are undecided: this study cannot tell their effect from chance.")
    assert "no comparison" in answer(frame.assign(primary=False), "accuracy", 0.005, 10)


def test_the_answer_says_what_would_decide_what_is_open():
    frame = frame_of(("mixup", "on", 0.002, "undecided"), ("tta", "on", 0.001, "undecided"))
    details = pd.DataFrame(
        {"confidence": 0.95, "more_seeds": [7, np.nan], "images_needed": [np.nan, 12000], "note": ["", ""]}
    )
    text = answer(frame, "accuracy", 0.005, 10, details)
    assert text.endswith(
        "from chance. mixup: about 7 more seeds would decide it; tta: more seeds will never decide it on "
        "these images; about 12,000 images would."
    )
    alone = answer(frame.iloc[:1], "accuracy", 0.005, 10, details.iloc[:1].assign(confidence=0.9875))
    assert alone.endswith("from chance. About 7 more seeds would decide it.")
    assert "98.8% interval" in alone
