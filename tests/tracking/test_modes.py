"""The mode goes by what was asked for, then by WANDB_MODE; auto is left to whoever knows the keys."""

import pytest

from ablate.errors import AblateError
from ablate.tracking.modes import choose


@pytest.mark.parametrize("asked", ["online", "offline", "off"])
def test_what_is_asked_for_comes_first(asked: str) -> None:
    assert choose(asked, {"WANDB_MODE": "disabled"}) == asked
    assert choose(asked, {"WANDB_MODE": "online"}) == asked


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("online", "online"),
        ("run", "online"),
        ("Offline", "offline"),
        ("dryrun", "offline"),
        ("disabled", "off"),
    ],
)
def test_auto_goes_by_wandbs_variable(value: str, mode: str) -> None:
    assert choose("auto", {"WANDB_MODE": value}) == mode


def test_auto_stays_auto_without_it() -> None:
    assert choose("auto", {}) == choose("auto", {"WANDB_MODE": " "}) == "auto"


def test_unknown_modes_are_told_with_what_there_is() -> None:
    with pytest.raises(AblateError, match=r"--wandb: 'onlin' is none of auto, online, .*online"):
        choose("onlin", {})
    with pytest.raises(AblateError, match=r"WANDB_MODE: 'of' is none of online, .*offline"):
        choose("auto", {"WANDB_MODE": "of"})
