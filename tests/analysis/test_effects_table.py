"""What a notebook shows of effects."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pandas as pd
import pytest

from ablate.analysis.effects import effects
from ablate.analysis.effects_table import EffectsTable

Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def frame(study: Tables) -> pd.DataFrame:
    return effects(*study)


def test_a_notebook_shows_effects_in_readable_units(frame: pd.DataFrame):
    frame.loc[0, ["effect", "ci_low", "ci_high", "verdict"]] = [0.0132, 0.004, 0.0224, "helps"]
    text = EffectsTable(frame)._repr_html_()
    assert "<caption>Effects on accuracy</caption>" in text
    assert "<td>+1.32</td><td>[+0.40, +2.24]</td><td>4</td><td>helps</td>" in text
    assert "<caption>Effects on log loss (exploratory)</caption>" in text
    assert text.count("<table>") == text.count("</table>") == 3


def test_names_are_text(frame: pd.DataFrame):
    frame["contrast"] = "<script>"
    text = EffectsTable(frame)._repr_html_()
    assert "<script>" not in text
    assert "<td>&lt;script&gt;</td>" in text


def test_no_comparison_is_said(frame: pd.DataFrame):
    assert "no comparison" in EffectsTable(frame.iloc[:0])._repr_html_()


def test_it_is_a_dataframe_in_every_other_way(frame: pd.DataFrame, tmp_path: Path):
    table = EffectsTable(frame)
    pd.testing.assert_frame_equal(table, frame, check_frame_type=False)
    table.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv", index=False)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert type(table[table["primary"]]) is pd.DataFrame
    assert type(table.head()) is pd.DataFrame
    assert "<th>contrast</th>" in table[["contrast"]]._repr_html_()
    for same in (copy.copy(table), pickle.loads(pickle.dumps(table))):
        pd.testing.assert_frame_equal(same, frame, check_frame_type=False)
