"""schedule: the documents' own rates, Keras's CosineDecay, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Phase
from ablate.study.design import Variant
from ablate.study.quick import quick_recipe
from ablate.study.setting import work_out
from ablate.techniques.schedule import WarmUpDecay, share_of_peak
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, fit_phase
from ablate.training.learner import build_learner, quiet


def rates(parts: Any, epochs: int, lr: Any, positions: list[float], **options: Any) -> list[float]:
    """The highest rate at some positions of a phase."""
    technique = WarmUpDecay.model_validate(options)
    phase = Phase(name="tune", epochs=epochs, lr=lr, batch_size=16, size=16, presize=20)
    share = technique.schedule(parts(technique, phase=phase).context)
    return [share(position) * (lr[1] if isinstance(lr, list) else lr) for position in positions]


def of_cassava(epoch: int) -> float:
    """Document 000: 30 epochs from 1e-6 over 2e-4 to 1e-6, 4 of warm-up; the decay spans 25 of 26 epochs."""
    low, high = 1e-6, 2e-4
    if epoch < 4:
        return low + (high + low) * (epoch / 4) ** 2.5
    return low + (high - low) * (math.cos(math.pi * (epoch - 4) / 25) + 1) / 2


def of_landmark(epoch: int) -> float:
    """Document 002: 15 epochs from 1e-5 over 2e-4 to 2e-5, 3 of warm-up, 2 at the peak; rounded there."""
    if epoch < 3:
        return round(1e-5 + (2e-4 + 1e-5) * (epoch / 3) ** 2.5, 8)
    if epoch < 5:
        return 2e-4
    return round(2e-5 + 1.8e-4 * (math.cos(math.pi * (epoch - 4) / 10) + 1) / 2, 8)


def test_document_000(make_parts: Callable[..., Any]) -> None:
    own = rates(make_parts, 30, 2e-4, list(range(30)), start=1e-6, final=1e-6, warmup=4, sustain=0, offset=0)
    assert own == pytest.approx([of_cassava(epoch) for epoch in range(30)], rel=1e-12)
    assert (own[0], own[4], own[29]) == pytest.approx((1e-6, 2e-4, 1e-6), rel=1e-12)


def test_document_002(make_parts: Callable[..., Any]) -> None:
    own = rates(make_parts, 15, 2e-4, list(range(15)), start=1e-5, final=2e-5, warmup=3, sustain=2, offset=1)
    assert [round(rate, 8) for rate in own] == [of_landmark(epoch) for epoch in range(15)]
    assert own[5] < 2e-4  # the decay is an epoch on when it begins
    assert own[14] == pytest.approx(2e-5)


def test_document_004(make_parts: Callable[..., Any]) -> None:
    """Keras's CosineDecay(1e-4, steps, alpha=0.3) at every step of 8 epochs of 37."""
    steps = 8 * 37
    own = rates(make_parts, 8, 1e-4, [s / 37 for s in range(steps)], final_share=0.3, per="step")
    keras = [1e-4 * (0.7 * 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.3) for step in range(steps)]
    assert own == pytest.approx(keras, rel=1e-12)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_an_epoch_has_one_rate_unless_every_step_has_its_own(make_parts: Callable[..., Any], per: str):
    own = rates(make_parts, 6, 1e-3, [2.0, 2.25, 2.99, 3.0], warmup=1, per=per)
    assert len(set(own)) == (2 if per == "epoch" else 4)
    assert own == sorted(own, reverse=True)


@given(
    position=st.floats(0, 10),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
    warmup=st.floats(0, 5),
    power=st.floats(0.1, 5),
    sustain=st.floats(0, 5),
    length=st.floats(0, 10),
)
def test_no_rate_is_above_the_peak_or_below_the_lower_end(position: float, length: float, **shape: float):
    share = share_of_peak(position, length, **shape)
    assert min(shape["start"], shape["final"]) - 1e-12 <= share <= 1


def test_without_a_decay_the_peak_stays(make_parts: Callable[..., Any]) -> None:
    own = rates(make_parts, 5, 1e-3, [0, 1, 2, 3, 4], warmup=2, start_share=0.1, decay="none")
    assert own == pytest.approx([1e-4, 1e-4 + 1.1e-3 * 0.5**2.5, 1e-3, 1e-3, 1e-3])


def test_rates_of_a_fit_are_those_of_the_formula_in_every_group(make_parts: Callable[..., Any]) -> None:
    technique = WarmUpDecay(start=1e-5, final=2e-5, warmup=1, sustain=1, offset=1)
    phase = Phase(name="tune", epochs=4, lr=[1e-5, 1e-3], batch_size=32, size=16, presize=20, weight_decay=0)
    made = make_parts(technique, phase=phase)
    learn, log = quiet(build_learner(made, dataloaders(made))), EpochLog("tune", lambda _: None)
    fit_phase(learn, phase, [1e-5, 1e-3], [log], schedule=technique.schedule(made.context))
    expected = [1e-5, 1e-3, 2e-5 + 9.8e-4 * 0.5, 2e-5]  # progress 1/2 and 1 of a decay of two epochs
    assert [step["lr"] for step in log.steps] == pytest.approx(np.repeat(expected, 3).tolist())
    assert [step["lr_body"] * 100 for step in log.steps] == pytest.approx([s["lr"] for s in log.steps])
    assert len({step["mom"] for step in log.steps}) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": 1e-6, "start_share": 0.1}, "give start or start_share, not both"),
        ({"final": 1e-6, "final_share": 0.1}, "give final or final_share, not both"),
        ({"decay": "none", "final": 1e-6}, "decay: none leaves final without effect"),
        ({"decay": "none", "sustain": 2}, "decay: none leaves sustain without effect"),
        ({"per": "step", "offset": 1}, "offset is for per: epoch"),
        ({"warmup": -1}, "greater than or equal to 0"),
        ({"power": 0}, "greater than 0"),
        ({"final_share": 1.5}, "less than or equal to 1"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WarmUpDecay.model_validate(options)


def recipe(options: dict[str, Any], **phase: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "rates",
            "phases": [{"name": "tune", "epochs": 5, "lr": 1e-3} | phase],
            "techniques": {"schedule": options},
            "study": {"baseline": ["schedule"]},
        }
    )


@pytest.mark.parametrize(
    ("options", "phase", "said"),
    [
        ({"warmup": 4, "sustain": 2}, {}, "take 6 of 5 epochs"),
        ({"warmup": 3, "sustain": 2}, {}, "take 5 of 5 epochs and leave none to decay in"),
        ({"warmup": 6, "decay": "none"}, {}, "take 6 of 5 epochs"),
        ({"warmup": 1, "start": 1e-6}, {"lr": "find"}, "lr: find is not known yet; write start_share"),
        ({"final": 1e-6}, {"lr": "find"}, "lr: find is not known yet; write final_share"),
        ({"warmup": 1, "start": 2e-3}, {}, "start 0.002 is above the phase's rate, 0.001"),
        ({"final": 2e-3}, {"lr": [1e-5, 1e-3]}, "final 0.002 is above the phase's rate, 0.001"),
    ],
)
def test_what_does_not_fit_a_phase_is_refused_in_planning(
    options: dict[str, Any], phase: dict[str, Any], said: str
) -> None:
    with pytest.raises(AblateError, match=said):
        work_out(recipe(options, **phase), Variant("baseline", {}))


def test_a_quick_study_has_no_warm_up() -> None:
    quick = quick_recipe(recipe({"warmup": 3, "sustain": 1, "start": 1e-6}))
    assert quick.techniques["schedule"] == {"warmup": 0, "sustain": 0, "start": 1e-6}
    assert work_out(quick, Variant("baseline", {})).phases[0].epochs == 1


def test_shares_serve_a_rate_that_is_found() -> None:
    setting = work_out(recipe({"warmup": 1, "final_share": 0.3}, lr="find"), Variant("baseline", {}))
    assert setting.on["schedule"].complaint(setting.phases[0]) is None
