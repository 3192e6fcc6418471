"""Contrasts: weights that sum to 0, round trips through JSON, and comparisons with a baseline."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ablate.analysis.contrasts import Contrast, against_baseline
from ablate.errors import AblateError


def test_each_variant_is_compared_with_the_baseline_in_the_order_given():
    found = against_baseline(["baseline+b", "baseline", "baseline+a", "baseline+b"], "baseline")
    assert [each.name for each in found] == ["baseline+b − baseline", "baseline+a − baseline"]
    assert found[0] == Contrast("b", "on", "baseline+b − baseline", {"baseline+b": 1.0, "baseline": -1.0})


def test_a_baseline_may_have_any_name():
    (only,) = against_baseline(["plain", "fancy"], "plain")
    assert (only.factor, only.weights) == ("fancy", {"fancy": 1.0, "plain": -1.0})


def test_a_baseline_that_is_not_there_is_an_error_that_lists_the_variants():
    with pytest.raises(AblateError, match=r"'base'.*plain, fancy"):
        against_baseline(["plain", "fancy"], "base")


def test_a_contrast_comes_back_from_json():
    contrast = Contrast("f", "2", "main effect", {"a": 0.5, "b": 0.5, "c": -1.0}, False, True, ("g × h",))
    assert Contrast.from_dict(json.loads(json.dumps(contrast.to_dict()))) == contrast


def test_a_contrast_of_an_older_plan_has_no_aliases():
    values = Contrast("f", "on", "f", {"a": 1.0, "b": -1.0}).to_dict()
    del values["aliases"]
    assert Contrast.from_dict(values).aliases == ()


@pytest.mark.parametrize("weights", [{}, {"a": 1.0}, {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": -0.9}])
def test_weights_that_compare_nothing_are_refused(weights: dict[str, float]):
    with pytest.raises(ValueError, match="sum to 0"):
        Contrast("f", "on", "bad", weights)


def test_thirds_sum_to_zero_closely_enough():
    Contrast("f", "on", "thirds", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "d": -1.0})


def test_planning_imports_nothing_heavy():
    code = (
        "import sys; import ablate.analysis.contrasts, ablate.analysis.names; "
        "from ablate.analysis import power; "
        "power.detectable_effect(100, 3); "
        "heavy = {'pandas', 'torch', 'scipy.stats', 'sklearn', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
