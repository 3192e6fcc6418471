"""The options with which every registered technique is tested; a new one is tested with its defaults."""

from __future__ import annotations

from typing import Any

from ablate import techniques
from ablate.techniques import compose

# Options of techniques to test beside the defaults, or in their place where the defaults do nothing.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "arcface": [{}, {"easy_margin": True, "ls_eps": 0.1}],
    "augment": [{"flip_vert": True, "p_affine": 1.0}],
    "bce_loss": [{}, {"sum_classes": True, "phases": ["late"]}],
    "blurpool": [{}, {"blur_first": False}],
    "class_weights": [{}, {"weights": [0.5, 1.0, 2.0]}],
    "color_jitter": [{"hue": 0.1}, {"like": "tensorflow", "brightness": 0.1}],
    "cutmix": [{}, {"per_image": True, "place": "inside", "p": 0.5, "partner": "other", "weight": 2.0}],
    "early_stopping": [{}, {"patience": 1, "min_delta": 100.0, "monitor": "roc_auc"}],
    "ema": [{}, {"decay": 0.5, "warmup": False, "phases": ["late"]}],
    "fixres": [{"train_share": 0.75, "multiple": 8}],
    "focal_loss": [{}, {"alpha": [0.5, 1.0, 2.0], "reduction": "sum"}],
    "gridmask": [{}, {"pattern": "checkerboard"}],
    "mixup": [
        {},
        {"phases": ["late"]},
        {"folded": False, "partner": "other"},
        {"further": {"name": "further", "epochs": 2}},
    ],
    "normalize": [{}, {"stats": "train"}],
    "progressive_resizing": [{"early": {"size": 24}}],
    "rand_augment": [{}, {"num_layers": 3, "increasing": False, "p": 1.0}],
    "random_crop": [{"within": "square"}],
    "random_erasing": [{}, {"mode": "pixel", "count": 2}],
    "reduce_on_plateau": [{"patience": 1, "min_delta": 100.0}],
    "sam": [{}, {"adaptive": True, "interval": 2}],
    "schedule": [{"warmup": 1}, {"per": "step", "warmup": 0.5, "final_share": 0.3}],
    "swa": [{"share": 0.6}],
    "tile_tta": [{"rows": 1, "columns": 2, "n": 2, "transforms": "augment"}],
    "tta": [{"n": 2, "transforms": "augment"}, {"transforms": "dihedral"}],
}


def all_at_once() -> dict[str, dict[str, Any]]:
    """Every technique that is registered, but those that do what one before them does alone."""
    on: dict[str, dict[str, Any]] = {}
    for name in techniques.registry():
        more = on | {name: SETTINGS.get(name, [{}])[0]}
        if compose.conflict(techniques.build(*one) for one in more.items()) is None:
            on = more
    return on
