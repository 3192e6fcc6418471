"""What W&B calls a study's runs: ids, names, tags and configs, from the study's plan and recipe alone.

Keys are of letters, digits and underscores, since W&B filters and sorts by no others:
`techniques_mixup_alpha`, `phases_head_lr`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

Config = dict[str, Any]


@dataclass(frozen=True)
class TrialRun:
    """A trial as W&B knows it.

    Args:
        id: Of the run.
        name: For people.
        tags: The techniques that are on.
        config: Everything that the trial was run with, flat.
        trial: The trial, as `plan.json` has it.
        phases: The names of its phases.
    """

    id: str
    name: str
    tags: tuple[str, ...]
    config: Config
    trial: Mapping[str, Any]
    phases: tuple[str, ...]

    @property
    def key(self) -> tuple[str, int, int]:
        """Variant, seed and fold."""
        return self.trial["variant"], self.trial["seed"], self.trial["fold"]

    @property
    def fits(self) -> Sequence[str]:
        """The keys of its fit stages."""
        return self.trial["fits"]


class Described:
    """A study as W&B knows it.

    Args:
        folder: The study's.
        id_: What tells the study from others of its name; see `ablate.tracking.notes`.
    """

    def __init__(self, folder: Path, id_: str):
        self.plan = json.loads((folder / "plan.json").read_text())
        self.recipe = YAML(typ="safe").load((folder / "recipe.yaml").read_text())
        self.name: str = self.plan["name"]
        self.study_id = study_id(id_)
        self.trials = [self._trial(trial, id_) for trial in self.plan["trials"]]

    def _trial(self, trial: Mapping[str, Any], id_: str) -> TrialRun:
        stages = self.plan["stages"]
        fits = [stages[key]["settings"] for key in trial["fits"]]
        settings = stages[trial["predict"]]["settings"]
        on = {one["name"]: one for stage in (*fits, settings) for one in stage["techniques"]}
        name = f"{trial['variant']} seed {trial['seed']}" + (
            f" fold {trial['fold']}" if trial["fold"] else ""
        )
        nested = {
            **{name: trial[name] for name in ("variant", "seed", "fold")},
            "factor": trial["levels"],
            "model": settings["model"],
            "phases": {stage["phase"]["name"]: _without(stage["phase"], "name") for stage in fits},
            "techniques": {name: self._options(name, fits, on) for name in on},
            "keep": settings["keep"],
            "deterministic": settings["deterministic"],
            "data": self.recipe.get("data", {}),
            "metric": self.plan["metric"],
            "device": self.plan["device"],
            "threads": self.plan["threads"],
            "versions": self.plan["versions"] | {"ablate": self.plan["ablate"]},
            "study": self.name,
        }
        return TrialRun(
            id=_hash(
                [
                    id_,
                    *(nested[part] for part in ("variant", "seed", "fold")),
                    trial["fits"],
                    trial["predict"],
                ]
            ),
            name=name,
            tags=tuple(on),
            config=flat(nested),
            trial=trial,
            phases=tuple(stage["phase"]["name"] for stage in fits),
        )

    @staticmethod
    def _options(name: str, fits: Sequence[Mapping[str, Any]], on: Mapping[str, Any]) -> Config:
        active = [
            stage["phase"]["name"]
            for stage in fits
            if any(one["name"] == name and one["active"] for one in stage["techniques"])
        ]
        return {"on": True, "phases": active} | on[name]["options"]

    @property
    def config(self) -> Config:
        """The config of the study's own run: its recipe, and its plan in numbers."""
        parts = {name: self.plan[name] for name in ("device", "threads", "quick", "classes")}
        versions = self.plan["versions"] | {"ablate": self.plan["ablate"]}
        return flat(self.recipe | parts | {"plan": self.plan["summary"], "versions": versions})


def study_id(id_: str) -> str:
    """The id of the study's own run."""
    return _hash([id_, "study"])


def flat(nested: Mapping[str, Any]) -> Config:
    """Nested values as one level, with keys that W&B can filter by.

    Lists of plain values stay lists; lists of mappings are counted from 0. Keys that come to the same get an
    underscore more.
    """
    found: Config = {}
    for path, value in _leaves(nested):
        key = key_of("_".join(path))
        while key in found:
            key += "_"
        found[key] = value
    return found


def key_of(name: str) -> str:
    """A name as W&B can filter and sort by it: letters, digits and underscores, no digit first."""
    key = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{key}" if key[:1].isdigit() else key


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, (*path, str(name)))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value):
            yield from _leaves(part, (*path, str(number)))
    else:
        yield path, value


def _without(mapping: Mapping[str, Any], name: str) -> Config:
    return {key: value for key, value in mapping.items() if key != name}


def _hash(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
