"""fixres: smaller sizes in training, a further phase at the full one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Phase
from ablate.study.design import Variant
from ablate.study.quick import quick_recipe
from ablate.study.setting import work_out
from ablate.techniques.fixres import FixRes, smaller_size

PHASES = [
    Phase(name="head", epochs=3, size=224, presize=460, freeze=True, lr=2e-3, batch_size=64),
    Phase(name="tune", epochs=2, size=448, presize=560, lr=[1e-6, 1e-4], batch_size=32),
]


@pytest.mark.parametrize(
    ("size", "share", "multiple", "expected"),
    [
        (224, 1 / 1.15, 32, 192),
        (448, 1 / 1.15, 32, 384),
        (512, 1 / 1.15, 32, 448),
        (384, 1 / 1.15, 32, 320),
        (224, 128 / 224, 32, 128),  # as in the paper
        (224, 0.87, 14, 196),
        (32, 0.5, 32, 32),
        (100, 0.01, 32, 32),
    ],
)
def test_sizes(size: int, share: float, multiple: int, expected: int) -> None:
    assert smaller_size(size, share, multiple) == expected


def test_phases_train_at_smaller_sizes_and_one_more_follows_at_the_full_one() -> None:
    edited = FixRes(epochs=4, lr=5e-4).edit_phases(PHASES)
    assert [(p.name, p.size, p.presize, p.epochs, p.freeze, p.lr, p.batch_size) for p in edited] == [
        ("head", 192, 460, 3, True, 2e-3, 64),
        ("tune", 384, 560, 2, False, [1e-6, 1e-4], 32),
        ("fixres", 448, 560, 4, True, 5e-4, 32),
    ]
    assert [phase.size for phase in PHASES] == [224, 448]


def test_a_spread_of_the_last_phase_is_not_the_further_phases() -> None:
    phases = [Phase(name="tune", epochs=1, size=224, presize=224, lr=1e-3, lr_spread=100)]
    further = FixRes(lr="find").edit_phases(phases)[-1]
    assert (further.lr, further.lr_spread) == ("find", 1)


def test_phases_whose_sizes_are_not_known_yet_stay() -> None:
    edited = FixRes().edit_phases([Phase(name="tune", epochs=1)])
    assert [(phase.name, phase.size) for phase in edited] == [("tune", None), ("fixres", None)]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_size_without_a_smaller_multiple_is_refused(size: int) -> None:
    with pytest.raises(AblateError, match=rf"^fixres: phase tune trains at {size} pixels.*lower train_share"):
        FixRes(train_share=0.9).edit_phases([Phase(name="tune", epochs=1, size=size, presize=size)])


@pytest.mark.parametrize(
    "options", [{"train_share": 1.0}, {"train_share": 0}, {"multiple": 0}, {"epochs": 0}]
)
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FixRes.model_validate(options)


def recipe(*on: str, **options: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "resolutions",
            "size": 224,
            "phases": [{"name": "head", "epochs": 2}, {"name": "tune", "epochs": 5}],
            "techniques": options,
            "study": {"baseline": list(on)},
        }
    )


def test_it_comes_after_what_other_techniques_do_to_the_phases() -> None:
    options = {"mixup": {"further": {"name": "more", "epochs": 2}}, "progressive_resizing": {"head": 128}}
    setting = work_out(recipe("fixres", "mixup", "progressive_resizing", **options), Variant("baseline", {}))
    assert [(phase.name, phase.size) for phase in setting.phases] == [
        ("head", 96),
        ("tune", 192),
        ("more", 192),
        ("fixres", 224),
    ]


def test_other_techniques_can_be_off_in_its_phase() -> None:
    setting = work_out(recipe("fixres", "mixup", mixup={"phases": ["head", "tune"]}), Variant("baseline", {}))
    assert setting.inactive("fixres") == {"mixup"}


def test_a_quick_study_has_one_epoch_of_it() -> None:
    setting = work_out(quick_recipe(recipe("fixres", fixres={"epochs": 7})), Variant("baseline", {}))
    assert [phase.epochs for phase in setting.phases] == [1, 1, 1]
