"""From trials to stages: a graph in which whatever trials have in common is one node.

A stage's key is the hash of everything that can change its result and of nothing else, so two trials share a
stage exactly when they must give the same result up to there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

from ablate import devices, techniques
from ablate.analysis.contrasts import Contrast
from ablate.data.inspect import file_hash
from ablate.recipe.checks import device_problems
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Model, Phase
from ablate.study import design
from ablate.study.graph import FoldData, Plan, Stage, Trial
from ablate.study.setting import Setting, work_out
from ablate.techniques import compose

STAGE_VERSIONS = {"fit": 4, "lr_find": 2, "predict": 3}
"""Raised when the numbers that a kind of stage gives change."""
_OF_TRIAL = ("seed", "data", "parent", "lr_from", "trial")
"""The settings in which stages differ that are the same but for seed, fold and what they hang on."""


@cache
def versions() -> dict[str, str]:
    """The versions that a result depends on, without importing the packages."""
    found = {
        name: metadata.version(name)
        for name in ("torch", "fastai", "timm", "pillow", "simplejpeg", "opencv-python-headless")
    }
    found["torch"] = ".".join(found["torch"].split(".")[:2])
    return found


def make_plan(
    recipe: Recipe,
    folds: Sequence[FoldData],
    *,
    weights_hash: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    share: bool = True,
) -> Plan:
    """The plan of a recipe's study.

    Args:
        recipe: The recipe.
        folds: The identity of the data of every fold that is run.
        weights_hash: The content hash of `model.weights`, where that is set.
        device: The device's name.
        threads: Torch threads, part of every key on the CPU.
        share: Whether trials share stages; else each has its own, under keys of their own.
    """
    known = list(techniques.known(recipe.technique_sources))
    factors = design.factors(recipe.study, known)
    variants = design.variants(recipe.study, factors)
    reference = work_out(recipe, design.Variant("baseline", {f.name: f.reference for f in factors}))
    plan = Plan(factors=[factor.name for factor in factors], versions=versions(), shared=share)
    plan.data_known = all(fold.train and fold.valid for fold in folds)
    surroundings = {
        "device": devices.identity(device, threads),
        "deterministic": recipe.deterministic,
        "versions": plan.versions,
    }
    if recipe.data.jpeg is not None:
        surroundings["jpeg"] = recipe.data.jpeg
    if recipe.data.stream is not None:
        surroundings["stream"] = recipe.data.stream.shards
    splits = ("valid", "test") if any(fold.test for fold in folds) else ("valid",)
    pattern = _Pattern(reference, weights_hash, surroundings, splits, share)
    outlines = [pattern.outline(work_out(recipe, variant), factors) for variant in variants]
    for seed in recipe.study.seed_list:
        for fold in folds:
            keys = _add_stages(plan, pattern.nodes, seed, fold)
            plan.trials += [outline.trial(seed, fold.index, keys) for outline in outlines]
    epochs = {outline.variant: outline.epochs for outline in outlines}
    contrasts = design.contrasts(recipe.study, factors, variants)
    plan.contrasts = [_flagged(contrast, epochs) for contrast in contrasts]
    return plan


@dataclass(frozen=True)
class _Node:
    """A stage but for its seed and data; `parent` and `found` are the ids of other nodes."""

    label: str
    settings: dict[str, Any]
    hash: str
    """Of the settings."""
    weights: str | None
    parent: str | None
    found: str | None
    split: str | None
    owner: str | None


@dataclass(frozen=True)
class _Outline:
    """A trial but for its seed and fold, made of nodes."""

    variant: str
    levels: dict[str, str]
    epochs: int
    fits: tuple[str, ...]
    predict: str
    test: str | None

    def trial(self, seed: int, fold: int, keys: Mapping[str, str]) -> Trial:
        """The trial of one seed and fold, whose stages have these keys."""
        fits = tuple(keys[node] for node in self.fits)
        test = keys.get(self.test) if self.test else None
        return Trial(self.variant, seed, fold, self.levels, fits, keys[self.predict], test)


class _Pattern:
    """The graph of one seed and fold. That of any other has the same form, so it is worked out once."""

    def __init__(
        self,
        reference: Setting,
        weights_hash: str | None,
        surroundings: dict[str, Any],
        splits: Sequence[str],
        share: bool,
    ):
        self.reference, self.weights_hash, self.surroundings = reference, weights_hash, surroundings
        self.splits, self.share = splits, share
        self.nodes: dict[str, _Node] = {}
        self.owner: str | None = None

    def outline(self, setting: Setting, factors: Sequence[design.Factor]) -> _Outline:
        """Add what a variant's trials are made of, as far as it is not there."""
        variant = setting.variant
        setting.recipe.complain(device_problems(setting.recipe, self.surroundings["device"]["class"]))
        self.owner = None if self.share else variant.name
        fits = self._fits(setting, len(setting.phases))
        predicted = {split: self._predict(setting, fits[-1], split) for split in self.splits}
        levels = {f.name: f.reference.label for f in factors}
        levels |= {name: level.label for name, level in variant.levels.items()}
        epochs = sum(phase.epochs for phase in setting.phases)
        return _Outline(variant.name, levels, epochs, tuple(fits), predicted["valid"], predicted.get("test"))

    def _fits(self, setting: Setting, count: int) -> list[str]:
        """The first `count` phases of a variant, each on top of the one before."""
        fits: list[str] = []
        for number in range(count):
            phase = setting.phases[number]
            found = self._rate(phase, number) if phase.lr == "find" else None
            fits.append(self._train("fit", setting, number, fits[-1] if fits else None, found))
        return fits

    def _rate(self, phase: Phase, number: int) -> str:
        """The stage that finds a phase's rate: on the reference variant, which every variant then uses.

        A phase that the reference does not have takes the rate of the reference's last phase.
        """
        names = [own.name for own in self.reference.phases]
        number = names.index(phase.name) if phase.name in names else len(names) - 1
        earlier = self._fits(self.reference, number)
        return self._train("lr_find", self.reference, number, earlier[-1] if earlier else None)

    def _train(
        self, kind: str, setting: Setting, number: int, parent: str | None, found: str | None = None
    ) -> str:
        phase = setting.phases[number]
        settings = self._common(kind, setting) | {
            "phase": phase.model_dump(mode="json"),
            "techniques": _identities(setting, phase.name, training=True),
            "keeps_optimizer": parent is not None and _same_optimizer(setting, number),
        }
        if kind == "fit" and setting.recipe.keep_by != "log_loss":
            settings["keep_by"] = setting.recipe.keep_by
        if kind == "fit" and setting.recipe.devices > 1:
            settings["devices"] = setting.recipe.devices
        what = phase.name if kind == "fit" else f"lr_find for {phase.name}"
        return self._add(what, setting, settings, parent, found)

    def _predict(self, setting: Setting, parent: str, split: str) -> str:
        last = setting.phases[-1]
        settings = self._common("predict", setting) | {
            "phase": last.model_dump(mode="json"),
            "techniques": _identities(setting, last.name, training=False),
            "split": split,
            "keep": setting.recipe.keep,
        }
        return self._add(f"predict {split}", setting, settings, parent, split=split)

    def _common(self, kind: str, setting: Setting) -> dict[str, Any]:
        model = setting.recipe.model
        network: dict[str, Any] = {"arch": model.arch, "pretrained": model.pretrained}
        network["weights"] = self._weights(model)
        if model.head is not None:
            network["head"] = model.head.model_dump(mode="json")
        own = {"kind": kind, "version": STAGE_VERSIONS[kind], "model": network, "salt": setting.salt}
        return own | self.surroundings

    def _weights(self, model: Model) -> str | None:
        """The content of the initial weights; a factor may give a variant a file of its own."""
        if model.weights == self.reference.recipe.model.weights:
            return self.weights_hash
        return file_hash(Path(model.weights)) if model.weights else None

    def _add(
        self,
        what: str,
        setting: Setting,
        settings: dict[str, Any],
        parent: str | None,
        found: str | None = None,
        split: str | None = None,
    ) -> str:
        common, label = _hash(settings), f"{setting.variant.name} · {what}"
        weights = setting.recipe.model.weights
        node = _Node(label, settings, common, weights, parent, found, split, self.owner)
        id_ = _hash([common, parent, found, self.owner])
        self.nodes.setdefault(id_, node)
        return id_


def _add_stages(plan: Plan, nodes: Mapping[str, _Node], seed: int, fold: FoldData) -> dict[str, str]:
    """Add the stages of one seed and fold to a plan, and tell each node's key."""
    keys: dict[str, str] = {}
    # folds that have not been looked at are told apart by their numbers
    data = {side: getattr(fold, side) or f"fold {fold.index}" for side in ("train", "valid", "test")}
    ending = f"seed {seed}" + (f" · fold {fold.index}" if fold.index else "")
    for id_, node in nodes.items():
        if node.split == "test" and not fold.test:
            continue
        parent = keys[node.parent] if node.parent else None
        found = keys[node.found] if node.found else None
        sides = (node.split,) if node.split else ("train", "valid")
        own: dict[str, Any] = {"seed": seed, "data": {side: data[side] for side in sides}}
        own |= {"parent": parent, "lr_from": found}
        if node.owner is not None:
            own["trial"] = {"variant": node.owner, "seed": seed, "fold": fold.index}
        key = keys[id_] = _hash([node.hash, own])
        if key not in plan.stages:
            plan.stages[key] = Stage(
                key,
                node.settings["kind"],
                f"{node.label} · {ending}",
                node.settings | own,
                seed,
                fold.index,
                tuple(one for one in (parent, found) if one is not None),
                node.weights,
            )
    return keys


def stage_key(settings: Mapping[str, Any]) -> str:
    """The hash of a stage's settings, in two steps, so that what is the same for all seeds is hashed once."""
    own = {name: settings[name] for name in _OF_TRIAL if name in settings}
    return _hash([_hash({name: value for name, value in settings.items() if name not in own}), own])


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _identities(setting: Setting, phase: str, training: bool) -> list[dict[str, Any]]:
    """The techniques that can change a phase's training, or what is predicted after it."""
    part = {
        technique.name: technique
        for technique in compose.ordered(setting.on.values())
        if technique.trains_in(phase) or (not training and technique.overrides("predict"))
    }
    return [technique.identity(part) | {"active": technique.active_in(phase)} for technique in part.values()]


def _same_optimizer(setting: Setting, number: int) -> bool:
    """Whether a phase goes on with the optimizer of the one before: unless freezing, or its make, changes."""
    before, phase = setting.phases[number - 1], setting.phases[number]
    makers = [
        [t.name for t in setting.on.values() if t.overrides("optimizer") and t.active_in(p.name)]
        for p in (before, phase)
    ]
    return before.freeze == phase.freeze and makers[0] == makers[1]


def _flagged(contrast: Contrast, epochs: Mapping[str, int]) -> Contrast:
    """A contrast, marked if its two sides train for different numbers of epochs."""
    difference = sum(weight * epochs[variant] for variant, weight in contrast.weights.items())
    return replace(contrast, unequal_epochs=abs(difference) > 1e-9)
