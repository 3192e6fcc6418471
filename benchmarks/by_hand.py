"""An ablation study as notebooks do it: every variant from scratch, one after the other. `study.py` runs it.

Plain fastai. Only the loaders come from the recipe, so that both sides of the benchmark read the same images
in the same way; threads and memory are set as `ablate` sets them. Nothing is shared, nothing is stored.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    LabelSmoothingCrossEntropyFlat,
    Learner,
    MixUp,
    accuracy,
    set_seed,
    vision_learner,
)

from ablate import Recipe, devices
from ablate.data.draws import Drawer
from ablate.data.geometry import Flip
from ablate.recipe.load import parse_overrides
from ablate.recipe.schema import Phase
from ablate.study.planning import available_cores


def run_variant(recipe: Recipe, on: list[str]) -> dict[str, Any]:
    """Train one variant, predict the validation images, score them."""
    began = time.perf_counter()
    set_seed(0)
    phases = phases_of(recipe, on)
    learn = train(recipe, on, phases)
    probabilities, targets = predict(learn, recipe.techniques.get("tta", {}) if "tta" in on else None)
    score = float(accuracy(probabilities, targets))
    seconds = time.perf_counter() - began
    return {
        "on": on,
        "epochs": sum(phase.epochs for phase in phases),
        "seconds": seconds,
        "accuracy": score,
    }


def phases_of(recipe: Recipe, on: list[str]) -> list[Phase]:
    """The recipe's phases, and the one that mixup adds."""
    further = recipe.techniques.get("mixup", {}).get("further")
    if "mixup" not in on or not further:
        return recipe.phases
    return [*recipe.phases, recipe.phases[-1].model_copy(update={"name": "mixup"} | further)]


def is_active(options: dict[str, Any], phase: str) -> bool:
    """Whether a technique that is on does anything in a phase."""
    chosen, further = options.get("phases"), options.get("further")
    if further:
        return phase == further.get("name", "mixup") or phase in (chosen or [])
    return chosen is None or phase in chosen


def train(recipe: Recipe, on: list[str], phases: list[Phase]) -> Learner:
    """All phases of a variant, on one learner."""
    learn, frozen = None, False
    for phase in phases:
        dls = recipe.dataloaders(phase=phase.name, on=on)
        if learn is None:
            learn = new_learner(recipe, dls)
            frozen = not phase.freeze
        learn.dls = dls
        active = [name for name in on if is_active(recipe.techniques.get(name, {}), phase.name)]
        smoothing = recipe.techniques.get("label_smoothing", {}).get("eps", 0.1)
        smooth = "label_smoothing" in active
        learn.loss_func = LabelSmoothingCrossEntropyFlat(smoothing) if smooth else CrossEntropyLossFlat()
        mixup = MixUp(recipe.techniques.get("mixup", {}).get("alpha", 0.4))
        if phase.freeze != frozen:
            frozen = phase.freeze
            (learn.freeze if frozen else learn.unfreeze)()
        rate: Any = slice(*phase.lr) if isinstance(phase.lr, list) else phase.lr
        decay = recipe.weight_decay if phase.weight_decay is None else phase.weight_decay
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(phase.epochs, rate, wd=decay, cbs=[mixup] if "mixup" in active else [])
    return learn


def new_learner(recipe: Recipe, dls: Any) -> Learner:
    model = recipe.model
    source = {"pretrained_cfg_overlay": {"file": model.weights}} if model.weights else {}
    pretrained = model.pretrained or model.weights is not None
    return vision_learner(dls, model.arch, normalize=False, pretrained=pretrained, metrics=accuracy, **source)


def predict(learn: Learner, tta: dict[str, Any] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and targets of the validation images, with test-time augmentation where it is on."""
    with learn.no_bar():
        plain, targets = learn.get_preds()
        if tta is None:
            return plain, targets
        copies = []
        for number in range(tta.get("n", 4)):  # as Learner.tta, whose transforms our loader does not use
            loader = learn.dls.valid.new()
            transforms = learn.dls.train.drawer.transforms or (Flip(),)
            loader.drawer, loader.epoch = Drawer(loader.streams, transforms), number
            copies.append(learn.get_preds(dl=loader)[0])
    stacked = torch.stack([plain, *copies])
    if tta.get("use_max"):
        return stacked.amax(0), targets
    return torch.stack(copies).mean(0).lerp(plain, tta.get("beta", 0.25)), targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("variants", help='JSON: [["mixup"], ["mixup", "tta"]]')
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    recipe = Recipe.load(arguments.recipe, parse_overrides(arguments.changes))
    devices.load(devices.choose("auto")).start(available_cores(), recipe.deterministic)
    recipe.dataloaders()  # looks at the images, which `ablate` has done before too
    for on in json.loads(arguments.variants):
        print(json.dumps(run_variant(recipe, on)), flush=True)


if __name__ == "__main__":
    main()
