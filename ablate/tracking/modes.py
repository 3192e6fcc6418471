"""Whether W&B is told online, offline or not at all. Imports nothing of W&B."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, cast, get_args

from ablate.errors import AblateError
from ablate.recipe.problems import suggestion

Mode = Literal["auto", "online", "offline", "off"]
MODES: tuple[str, ...] = get_args(Mode)
_OF_WANDB: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "off",
}
"""What the values of `WANDB_MODE` come to."""


def choose(asked: str, environment: Mapping[str, str] = os.environ) -> Mode:
    """The mode that a study is told in.

    Args:
        asked: auto, online, offline or off; auto goes by `WANDB_MODE` and stays auto without it: whether
            there is a key is found out by the process that sends.
        environment: The variables.

    Raises:
        AblateError: There is no such mode.
    """
    if asked not in MODES:
        raise AblateError(f"--wandb: {asked!r} is none of {', '.join(MODES)}{suggestion(asked, MODES)}")
    value = environment.get("WANDB_MODE", "").strip().lower()
    if asked != "auto" or not value:
        return cast(Mode, asked)
    if value not in _OF_WANDB:
        raise AblateError(
            f"WANDB_MODE: {value!r} is none of {', '.join(_OF_WANDB)}{suggestion(value, _OF_WANDB)}"
        )
    return _OF_WANDB[value]
