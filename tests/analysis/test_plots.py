"""What the figures show, read back from their artists."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ablate.analysis.drawing import INK, inline_svg, svg
from ablate.analysis.effects import effects
from ablate.analysis.plots import VERDICT_COLORS, confusion, costs, curves, forest, reliability
from ablate.analysis.wording import signed

Tables = tuple[pd.DataFrame, pd.DataFrame]


def dots(figure: Figure) -> list[tuple[float, str]]:
    """The place and colour of each effect's dot, from the top."""
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    return [(float(np.asarray(line.get_xdata())[0]), to_hex(line.get_color())) for line in lines]


def history_of(accuracy: dict[tuple[str, int, str, int], float]) -> pd.DataFrame:
    rows = [(*key, 0, value) for key, value in accuracy.items()]
    return pd.DataFrame(rows, columns=["variant", "seed", "phase", "epoch", "fold", "accuracy"])


def test_forest_has_a_row_per_primary_contrast_in_points_coloured_by_verdict(study: Tables):
    frame = effects(*study)
    frame.loc[frame["factor"] == "tta", "primary"] = False
    figure = forest(frame, "accuracy", 0.005)
    ((x, color),) = dots(figure)
    assert x == pytest.approx(frame["effect"][0] * 100)
    assert color == VERDICT_COLORS["helps"].lower()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "mixup",
        f"{signed(frame['effect'][0], 'accuracy')}  helps",
    ]
    ends = [line.get_xdata() for line in axes.get_lines() if len(np.asarray(line.get_xdata())) == 2]
    drawn = {tuple(np.round(np.asarray(each, dtype=float), 9)) for each in ends}
    for low, high in (("ci_low", "ci_high"), ("seed_ci_low", "seed_ci_high")):
        assert tuple(np.round([frame[low][0] * 100, frame[high][0] * 100], 9)) in drawn


def test_forest_has_a_band_of_the_smallest_effect(study: Tables):
    (band,) = forest(effects(*study), "accuracy", 0.02).axes[0].patches
    assert isinstance(band, Rectangle)
    assert (band.get_x(), band.get_width()) == pytest.approx((-2.0, 4.0))


def test_forest_of_another_metric_keeps_the_primary_contrasts_and_its_unit(study: Tables):
    frame = effects(*study)
    figure = forest(frame, "log_loss", 0.0)
    assert [x for x, _ in dots(figure)] == pytest.approx(frame["effect"][[2, 5]].tolist())
    assert "nats" in figure.axes[0].get_xlabel()


def test_forest_draws_unknown_intervals_and_effects_without_failing(study: Tables):
    frame = effects(*study)
    frame.loc[0, ["ci_low", "ci_high", "seed_ci_low", "seed_ci_high"]] = math.nan
    frame.loc[3, ["effect", "ci_low", "ci_high", "seed_ci_low", "seed_ci_high"]] = math.nan
    text = svg(forest(frame, "accuracy", 0.005))
    assert ">mixup<" in text
    assert ">tta<" in text


def test_forest_of_nothing_is_an_empty_figure(study: Tables):
    figure = forest(effects(*study).iloc[:0], "accuracy", 0.005)
    assert dots(figure) == []
    assert "<svg" in svg(figure)


def test_curves_count_epochs_through_all_phases_and_average_over_seeds():
    accuracy = {
        ("baseline", seed, phase, epoch): 0.1 * seed + (0.5 if phase == "tune" else 0.2) + 0.01 * epoch
        for seed in (0, 1)
        for phase in ("head", "tune")
        for epoch in (0, 1)
    }
    accuracy |= {("longer", 0, "head", epoch): 0.3 for epoch in range(5)}
    axes = curves(history_of(accuracy)).axes[0]
    baseline, longer = axes.get_lines()
    assert np.asarray(baseline.get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(baseline.get_ydata()).tolist() == pytest.approx([25, 26, 55, 56])
    assert np.asarray(longer.get_xdata()).tolist() == [1, 2, 3, 4, 5]
    spread = axes.collections[0].get_paths()[0].get_extents()
    half = 100 * np.std([0.0, 0.1], ddof=1)
    assert (spread.y0, spread.y1) == pytest.approx((25 - half, 56 + half))
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["baseline", "longer"]


def test_curves_tell_more_than_eight_variants_apart():
    history = history_of({(f"v{i}", 0, "head", epoch): 0.1 * i for i in range(20) for epoch in (0, 1)})
    looks = {(line.get_color(), line.get_linestyle()) for line in curves(history).axes[0].get_lines()}
    assert len(looks) == 20


def test_curves_fall_back_on_the_loss_and_bear_missing_values():
    history = history_of({("baseline", 0, "head", epoch): math.nan for epoch in (0, 1)})
    axes = curves(history.assign(valid_loss=[1.0, math.nan])).axes[0]
    assert axes.get_ylabel() == "valid loss"
    assert np.asarray(axes.get_lines()[0].get_ydata()).tolist() == [1.0]
    assert not curves(history.assign(valid_loss=1.0).iloc[:0]).axes[0].get_lines()


def test_variants_that_were_trained_alike_share_a_curve():
    accuracy = {
        (name, 0, "head", epoch): 0.1 * epoch for name in ("baseline", "baseline+tta") for epoch in (1, 2)
    }
    accuracy |= {("baseline+mixup", 0, "head", epoch): 0.2 * epoch for epoch in (1, 2)}
    axes = curves(history_of(accuracy)).axes[0]
    assert [line.get_label() for line in axes.get_lines()] == ["baseline, baseline+tta", "baseline+mixup"]


def test_reliability_has_a_line_per_variant_in_percent():
    table = pd.DataFrame({"confidence": [0.4, 0.9], "accuracy": [0.5, 0.8], "count": [10, 90]})
    axes = reliability({"a": table}, ["b", "a"]).axes[0]
    truth, line = axes.get_lines()
    assert truth.get_label() == "perfectly calibrated"
    assert np.asarray(line.get_xdata()).tolist() == [40, 90]
    assert np.asarray(line.get_ydata()).tolist() == [50, 80]
    assert line.get_color() != INK


def test_a_confusion_matrix_is_a_heat_map_with_numbers_true_classes_down():
    shares = np.array([[0.75, 0.25, 0.0], [0.1, 0.9, 0.0], [np.nan, np.nan, np.nan]])
    axes = confusion(shares, ["cat", "dog", "$3"], "baseline+tta").axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[0, 0] == "75"
    assert texts[1, 0] == "25"  # a cat that was called a dog: second column, first row
    assert texts[0, 1] == "10"
    assert texts[2, 2] == "–"
    assert axes.yaxis_inverted()
    mesh = axes.collections[0].get_array()
    assert mesh is not None
    assert mesh[0, 1] == 0.25
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", r"\$3"]


def test_costs_number_the_techniques():
    row = {"effect": 0.01, "ci_low": 0.0, "ci_high": 0.02, "verdict": "helps"}
    table = pd.DataFrame([row | {"number": 1, "extra": 0.5}, row | {"number": 2, "extra": -0.1}])
    figure = costs(table, "accuracy")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    assert [x for x, _ in dots(figure)] == [50, -10]


def test_dollars_in_names_are_no_mathematics(study: Tables):
    frame = effects(*study)
    frame["factor"] = frame["factor"].replace("mixup", "$x_1$ & <b>")
    assert "$x_1$ &amp; &lt;b&gt;" in svg(forest(frame, "accuracy", 0.005))


def test_a_figure_in_a_page_takes_its_colours_and_font(study: Tables):
    frame = effects(*study)
    frame["factor"] = frame["factor"].replace("mixup", 'id="x" href="#y"')
    text = inline_svg(forest(frame, "accuracy", 0.005), "one", 'says "1 < 2"')
    assert text.startswith("<svg viewBox=")
    assert 'role="img" aria-label="says &#34;1 &lt; 2&#34;"' in text
    assert INK not in text
    assert "currentColor" in text
    assert "DejaVu" not in text
    assert "<style" not in text
    assert "<metadata" not in text
    assert 'id="x" href="#y"' in text  # what is no tag stays as it is
    tags = "".join(re.findall(r"<[^>]*>", text))
    assert set(re.findall(r"url\(#([^)]*)\)", tags)) <= set(re.findall(r'id="([^"]*)"', tags))
    assert all(each.startswith("one-") for each in re.findall(r'\bid="([^"]*)"', tags))


def test_figures_show_as_svg_in_notebooks(study: Tables):
    figure = forest(effects(*study), "accuracy", 0.005)
    assert figure._repr_svg_().startswith("<?xml")
    assert INK in figure._repr_svg_()


def test_no_pyplot_is_imported():
    code = "import sys, ablate.analysis.report; print('matplotlib.pyplot' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
