"""Run a function in a process of its own, forked from a server that has touched no device."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def separately(work: Callable[..., Any], *args: Any, **fields: Any) -> Any:
    """What a function of a module gives, or raises, where nothing has run before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ablate.training.stage", "ablate.devices.xla"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *args, **fields).result()
