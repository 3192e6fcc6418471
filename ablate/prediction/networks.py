"""Which trained networks predict: those of one variant, of every seed and fold, from a study or an export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate import sealed, techniques
from ablate.analysis.names import title
from ablate.analysis.winner import winner
from ablate.errors import AblateError, Damaged
from ablate.recipe.data_schema import Data
from ablate.recipe.problems import suggestion
from ablate.recipe.recipe import Recipe
from ablate.study.remote_store import store_at
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.weights import FOLDER, files
from ablate.training.inputs import INPUTS, Inputs

MANIFEST = "export.json"
"""What makes a folder an export: its variant and its networks."""


@dataclass(frozen=True)
class Network:
    """One trained network.

    Args:
        seed: Of its trial.
        fold: Likewise.
        settings: Those of the stage that predicts with it.
        folder: Has its weights and `inputs.json`, sealed.
        technique_sources: The texts of the recipe's own techniques; see `ablate.techniques.known`.
    """

    seed: int
    fold: int
    settings: dict[str, Any]
    folder: Path
    technique_sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed}, fold {self.fold}"

    @property
    def inputs(self) -> Inputs:
        """What it needs beside its weights.

        Raises:
            AblateError: They are missing or damaged.
        """
        try:
            return Inputs.read(self.folder)
        except Damaged:
            raise self.unusable() from None

    def unusable(self) -> AblateError:
        """What to tell of weights that are missing or not those that were written."""
        seal = sealed.read_seal(self.folder)
        if seal is not None and INPUTS not in seal["files"]:
            return AblateError(
                f"{self.folder}: an earlier ablate trained this network and did not keep all that prediction "
                "needs; remove it with `ablate store prune`, and `ablate run` trains it again."
            )
        try:
            needed = [*files(self.folder, self.settings["keep"])]
        except Damaged:
            needed = ["best.json"]
        damaged = (name for name in sealed.damaged_files(self.folder) if name in (*needed, sealed.SEAL))
        broken = next(damaged, sealed.SEAL)
        return AblateError(
            f"{self.folder / broken}: is missing or damaged; copy the study's folder again, with all of its "
            f"{FOLDER}/; where it was run, `ablate store verify` and then `ablate run` put it there again."
        )


@dataclass(frozen=True)
class Ensemble:
    """The networks of one variant, and what is told of how they were chosen.

    Args:
        recipe: The study's.
        variant: Its name.
        networks: One or more, by seed and fold.
        note: A sentence for people.
        threads: The torch threads that they were trained with; None if that is not known.
    """

    recipe: Recipe
    variant: str
    networks: Sequence[Network]
    note: str
    threads: int | None = None

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.networks[0].inputs.classes

    @property
    def data(self) -> Data:
        """The recipe's data section, with a table's columns only where the networks see them."""
        known = techniques.known(self.recipe.technique_sources)
        reads = any(known[own["name"]].reads_table for own in self.networks[0].settings["techniques"])
        return self.recipe.data if reads else self.recipe.data.model_copy(update={"tabular": None})

    @property
    def predicting(self) -> list[str]:
        """The techniques that change how predictions are made, such as test-time augmentation."""
        known = techniques.known(self.recipe.technique_sources)
        names = [own["name"] for own in self.networks[0].settings["techniques"]]
        return [name for name in names if known[name].predict is not techniques.Technique.predict]

    def with_tta(self) -> Ensemble:
        """The same networks, each predicting with test-time augmentation as the recipe has it.

        Raises:
            AblateError: The variant has it already.
        """
        if any(own["name"] == "tta" for own in self.networks[0].settings["techniques"]):
            raise AblateError(f"--tta: {self.variant} predicts with tta already; leave --tta away.")
        tta: dict[str, Any] = {
            "name": "tta",
            "options": self.recipe.techniques.get("tta", {}),
            "active": True,
        }
        techniques.build("tta", tta["options"])
        more = [
            replace(one, settings=one.settings | {"techniques": [*one.settings["techniques"], tta]})
            for one in self.networks
        ]
        return replace(self, networks=more, note=f"{self.note}, with tta")

    def one(self, seed: int | None, fold: int | None) -> Network:
        """One network; the first of those that were asked for.

        Raises:
            AblateError: There is none of that seed and fold.
        """
        for network in self.networks:
            if seed in (None, network.seed) and fold in (None, network.fold):
                return network
        there = "; ".join(network.name for network in self.networks)
        raise AblateError(f"--seed, --fold: {self.variant} has no such trained network; there are: {there}.")


def find_ensemble(folder: str | Path, variant: str | None = None) -> Ensemble:
    """The trained networks of a variant.

    Args:
        folder: A study's, or what `ablate export` wrote.
        variant: Its name; default the study's only or best one.

    Raises:
        AblateError: There is no such study or variant, or none of its trials is finished.
    """
    if (Path(folder) / MANIFEST).is_file():
        return _exported(Path(folder), variant)
    study = Study.open(folder)
    content, trials = study.plan, study.trials
    chosen, why = choose_variant(study, variant)
    finished = trials[(trials.variant == chosen) & (trials.status == "ok")]
    pairs = set(zip(finished.seed, finished.fold, strict=True))
    own = [trial for trial in content["trials"] if trial["variant"] == chosen]
    recipe = Recipe.load(study.folder / "recipe.yaml")
    networks = [
        Network(
            trial["seed"],
            trial["fold"],
            content["stages"][trial["predict"]]["settings"],
            _weights_of(study.folder, store_at(content["store"]), trial["fits"][-1]),
            recipe.technique_sources,
        )
        for trial in own
        if (trial["seed"], trial["fold"]) in pairs
    ]
    if not networks:
        states = ", ".join(sorted(set(trials.status[trials.variant == chosen])))
        raise AblateError(
            f"{folder}: no trial of {chosen} is finished ({states}); `ablate run` goes on with it."
        )
    note = f"{why}: {_counted(networks)}"
    if left := len(own) - len(networks):
        note += f" ({left} of its {len(own)} trials are not finished or diverged, and are left out)"
    if content.get("quick"):
        note += "; of a smoke run, so what they predict means nothing"
    threads = study.threads if content.get("device") == "cpu" else None
    return Ensemble(recipe, chosen, networks, note, threads)


def choose_variant(study: Study, variant: str | None) -> tuple[str, str]:
    """A variant of a study, by default its only or best one, and a few words on how it was chosen.

    Raises:
        AblateError: There is none of that name, or nothing says which is the best.
    """
    content, trials = study.plan, study.trials
    variants = list(dict.fromkeys(trial["variant"] for trial in content["trials"]))
    if variant is not None:
        if variant not in variants:
            raise AblateError(f"--variant: there is no {variant!r}{suggestion(variant, variants)}")
        return variant, variant
    if len(variants) == 1:
        return variants[0], variants[0]
    best = winner(trials, content["metric"])
    if best is None:
        raise AblateError(
            f"{study.folder}: no finished trial has a value of {content['metric']}, so none is the best; "
            f"choose with --variant; there are {', '.join(variants)}."
        )
    return best, f"{best}, the best of {len(variants)} variants by {title(content['metric'])}"


def _weights_of(study: Path, store: Store, key: str) -> Path:
    """Where the weights of a fit stage are: in the study's folder, else in the store that it was run with."""
    own = study / FOLDER / key
    return store.folder(key) if not (own / sealed.SEAL).is_file() and store.seal(key) else own


def _counted(networks: Sequence[Network]) -> str:
    seeds, folds = {network.seed for network in networks}, {network.fold for network in networks}
    number = f"{len(networks)} network" + ("s" if len(networks) > 1 else "")
    parts = [f"{len(seeds)} seeds"] * (len(seeds) > 1) + [f"{len(folds)} folds"] * (len(folds) > 1)
    return f"{number} ({', '.join(parts)})" if parts else number


def _exported(folder: Path, variant: str | None) -> Ensemble:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        networks = [
            Network(one["seed"], one["fold"], one["settings"], folder / one["folder"])
            for one in content["networks"]
        ]
        name, threads = str(content["variant"]), content["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        raise AblateError(
            f"{folder / MANIFEST}: cannot be read; run `ablate export` again, or copy its folder whole."
        ) from None
    if variant not in (None, name):
        raise AblateError(f"--variant: {folder} was exported with {name} alone.")
    note = f"{name}: {_counted(networks)}"
    recipe = Recipe.load(folder / "recipe.yaml")
    networks = [replace(one, technique_sources=recipe.technique_sources) for one in networks]
    return Ensemble(recipe, name, networks, note, threads)
