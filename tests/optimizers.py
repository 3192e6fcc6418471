"""The optimizers that are tested, fastai's own and torch's through fastai's wrapper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fastai.optimizer import SGD, Adam, Lamb, Larc, Lookahead, OptimWrapper, QHAdam, RAdam, RMSProp, ranger

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "Adam": Adam,
    "Adam with L2": partial(Adam, decouple_wd=False),
    "SGD": SGD,
    "SGD with momentum": partial(SGD, mom=0.9),
    "RMSProp": RMSProp,
    "RMSProp with momentum": partial(RMSProp, mom=0.9),
    "RAdam": RAdam,
    "QHAdam": QHAdam,
    "LAMB": Lamb,
    "LARC": Larc,
    "LARS": partial(Larc, clip=False),
    "ranger": partial(ranger, k=2),
    "Lookahead on SGD": lambda params, **rates: Lookahead(SGD(params, mom=0.9, **rates), k=4),
    "torch AdamW": partial(OptimWrapper, opt=torch.optim.AdamW),
    "torch AdamW, fused": partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True)),
    "torch AdamW, amsgrad": partial(OptimWrapper, opt=partial(torch.optim.AdamW, amsgrad=True)),
    "torch SGD with momentum": partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=0.9)),
}
