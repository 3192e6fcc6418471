"""From trials to stages: a graph in which whatever trials have in common is one node.

A stage's key is the hash of everything that can change its result and of nothing else, so two trials share a
stage exactly when they must give the same result up to there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

from ablate import devices, techniques
from ablate.analysis.contrasts import Contrast
from ablate.data.inspect import file_hash
from ablate.recipe.checks import phase_problems
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Model, Phase
from ablate.study import design
from ablate.study.graph import FoldData, Plan, Stage, Trial
from ablate.techniques import compose
from ablate.techniques.base import Technique

STAGE_VERSIONS = {"fit": 1, "lr_find": 1, "predict": 1}
"""Raised when the numbers that a kind of stage gives change."""
_PHASE_DEFAULTS = ("batch_size", "size", "presize", "weight_decay", "precision", "micro_batch")


@dataclass(frozen=True)
class Setting:
    """One variant worked out: its recipe, the techniques that are on, its phases."""

    variant: design.Variant
    recipe: Recipe
    on: dict[str, Technique]
    phases: list[Phase]

    @property
    def salt(self) -> str:
        """What its techniques put into every random stream."""
        return "/".join(
            salt for technique in compose.ordered(self.on.values()) if (salt := technique.stream_salt())
        )


@cache
def versions() -> dict[str, str]:
    """The versions that a result depends on, without importing the packages."""
    found = {
        name: metadata.version(name)
        for name in ("torch", "fastai", "timm", "pillow", "opencv-python-headless")
    }
    found["torch"] = ".".join(found["torch"].split(".")[:2])
    return found


def resolved_phases(recipe: Recipe, on: Iterable[Technique]) -> list[Phase]:
    """The phases of a variant with every setting filled in: recipe, then phase, then technique."""
    filled = []
    for phase in recipe.phases:
        missing = {name: getattr(recipe, name) for name in _PHASE_DEFAULTS if getattr(phase, name) is None}
        phase = phase.model_copy(update=missing)
        filled.append(phase.model_copy(update={"presize": phase.presize or phase.size}))
    return compose.edit_phases(on, filled)


def work_out(recipe: Recipe, variant: design.Variant) -> Setting:
    """Everything that a variant sets, checked.

    Raises:
        RecipeError: The variant's phases cannot work.
    """
    fields, on = design.resolve(recipe.study, variant)
    changed = recipe.override(fields)
    built = {name: techniques.build(name, changed.techniques.get(name, {}) | own) for name, own in on.items()}
    phases = resolved_phases(changed, built.values())
    recipe.complain(phase_problems(changed, phases, variant.name))
    return Setting(variant, changed, built, phases)


def make_plan(
    recipe: Recipe,
    folds: Sequence[FoldData],
    *,
    weights_hash: str | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> Plan:
    """The plan of a recipe's study.

    Args:
        recipe: The recipe.
        folds: The identity of the data of every fold that is run.
        weights_hash: The content hash of `model.weights`, where that is set.
        device: The device's name.
        threads: Torch threads, part of every key on the CPU.
    """
    known = list(techniques.registry())
    factors = design.factors(recipe.study, known)
    variants = design.variants(recipe.study, factors)
    settings = [work_out(recipe, variant) for variant in variants]
    reference = work_out(recipe, design.Variant("baseline", {f.name: f.reference for f in factors}))
    plan = Plan(factors=[factor.name for factor in factors], versions=versions())
    plan.data_known = all(fold.train and fold.valid for fold in folds)
    surroundings = {
        "device": devices.identity(device, threads),
        "deterministic": recipe.deterministic,
        "versions": plan.versions,
    }
    for seed in recipe.study.seed_list:
        for fold in folds:
            builder = _Builder(plan, reference, seed, fold, weights_hash, surroundings)
            for setting in settings:
                plan.trials.append(builder.trial(setting, factors))
    plan.contrasts = _flagged(design.contrasts(recipe.study, factors, variants), plan)
    return plan


@dataclass
class _Builder:
    """Adds the stages of one seed and fold to a plan."""

    plan: Plan
    reference: Setting
    seed: int
    fold: FoldData
    weights_hash: str | None
    surroundings: dict[str, Any]

    def trial(self, setting: Setting, factors: Sequence[design.Factor]) -> Trial:
        fits = self.fits(setting, len(setting.phases))
        predicted = {
            split: self._predict(setting, fits[-1], split, data) for split, data in self._splits().items()
        }
        levels = {f.name: setting.variant.levels.get(f.name, f.reference).label for f in factors}
        levels |= {name: level.label for name, level in setting.variant.levels.items()}
        return Trial(
            setting.variant.name,
            self.seed,
            self.fold.index,
            levels,
            tuple(fits),
            predicted["valid"],
            predicted.get("test"),
        )

    def _splits(self) -> dict[str, str | None]:
        return {"valid": self.fold.valid} | ({"test": self.fold.test} if self.fold.test else {})

    def fits(self, setting: Setting, count: int) -> list[str]:
        """The first `count` phases of a variant, each on top of the one before."""
        keys: list[str] = []
        for number in range(count):
            phase = setting.phases[number]
            parent = keys[-1] if keys else None
            found = self._rate(phase, number) if phase.lr == "find" else None
            keys.append(self._train("fit", setting, number, parent, found))
        return keys

    def _rate(self, phase: Phase, number: int) -> str:
        """The stage that finds a phase's rate: on the reference variant, which every variant then uses.

        A phase that the reference does not have takes the rate of the reference's last phase.
        """
        names = [own.name for own in self.reference.phases]
        number = names.index(phase.name) if phase.name in names else len(names) - 1
        earlier = self.fits(self.reference, number)
        return self._train("lr_find", self.reference, number, earlier[-1] if earlier else None, None)

    def _train(self, kind: str, setting: Setting, number: int, parent: str | None, found: str | None) -> str:
        phase = setting.phases[number]
        own = phase.model_dump(mode="json")
        if found is not None:
            own["lr"] = "find"
        settings = self._common(kind, setting) | {
            "phase": own,
            "techniques": _identities(setting, phase.name, training=True),
            "data": {"train": self.fold.train, "valid": self.fold.valid},
            "parent": parent,
            "keeps_optimizer": parent is not None and _same_optimizer(setting, number),
            "lr_from": found,
        }
        label = phase.name if kind == "fit" else f"lr_find for {phase.name}"
        return self._add(kind, settings, label, setting, (parent, found))

    def _predict(self, setting: Setting, parent: str, split: str, data: str | None) -> str:
        last = setting.phases[-1]
        settings = self._common("predict", setting) | {
            "phase": last.model_dump(mode="json"),
            "techniques": _identities(setting, last.name, training=False),
            "data": {split: data},
            "split": split,
            "parent": parent,
        }
        return self._add("predict", settings, f"predict {split}", setting, (parent,))

    def _common(self, kind: str, setting: Setting) -> dict[str, Any]:
        model = setting.recipe.model
        network = {"arch": model.arch, "pretrained": model.pretrained, "weights": self._weights(model)}
        return {
            "kind": kind,
            "version": STAGE_VERSIONS[kind],
            "model": network,
            "seed": self.seed,
            "salt": setting.salt,
            **self.surroundings,
        }

    def _weights(self, model: Model) -> str | None:
        """The content of the initial weights; a factor may give a variant a file of its own."""
        if model.weights == self.reference.recipe.model.weights:
            return self.weights_hash
        return file_hash(Path(model.weights)) if model.weights else None

    def _add(
        self, kind: str, settings: dict[str, Any], what: str, setting: Setting, parents: Iterable[str | None]
    ) -> str:
        key = stage_key(settings)
        if key not in self.plan.stages:
            label = f"{setting.variant.name} · {what} · seed {self.seed}"
            label += f" · fold {self.fold.index}" if self.fold.index else ""
            self.plan.stages[key] = Stage(
                key,
                kind,
                label,
                settings,
                self.seed,
                self.fold.index,
                tuple(parent for parent in parents if parent is not None),
                setting.recipe.model.weights,
            )
        return key


def stage_key(settings: Mapping[str, Any]) -> str:
    """The hash of a stage's settings."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
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


def _flagged(contrasts: Sequence[Contrast], plan: Plan) -> list[Contrast]:
    """The contrasts, marked where their two sides trained for different numbers of epochs."""
    epochs = {trial.variant: sum(plan.stages[key].epochs for key in trial.fits) for trial in plan.trials}
    flagged = []
    for contrast in contrasts:
        difference = sum(weight * epochs[variant] for variant, weight in contrast.weights.items())
        flagged.append(Contrast(**{**vars(contrast), "unequal_epochs": abs(difference) > 1e-9}))
    return flagged
