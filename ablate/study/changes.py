"""What has changed between a study that is there and the run that is about to write into its folder.

A changed recipe is told, and what still holds is kept. Changed images and changed versions are refused, since
their results would stand in one table with those of the earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ablate import devices
from ablate.errors import AblateError, Place
from ablate.recipe.differences import complete, differences
from ablate.recipe.load import Document
from ablate.recipe.recipe import Recipe
from ablate.recipe.technique_files import read_technique_files, techniques_of

SCHEMA = 1
"""The schema of `plan.json` that is known here."""
_SIDES = {"train": "training", "valid": "validation", "test": "test"}
_KINDS = {"fit": "ablate's training", "lr_find": "ablate's lr_find", "predict": "ablate's prediction"}


@dataclass(frozen=True)
class Version:
    """Something that results depend on and that has another version now.

    Args:
        what: Its name around the version, such as `torch {}`.
        then: The version that the study was begun with.
        now: The version here.
    """

    what: str
    then: str
    now: str

    def __str__(self) -> str:
        return self.what.format(f"{self.then} → {self.now}")


@dataclass(frozen=True)
class Changes:
    """What differs between a study that is there and the run that is about to write into its folder.

    Args:
        recipe: A line for each field: `size: 64 → 96`.
        data: What the recipe names as before and which is not what it was: `the training images`.
        versions: Of packages, techniques and kinds of stages that both use.
        place: How it runs: device, threads, sharing, quick.
        unread: A sentence for each file of the study that could not be read, and so not be compared.
    """

    recipe: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    place: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class _Settings(BaseModel):
    version: int
    data: dict[str, str | None] = {}
    model: dict[str, Any] = {}
    techniques: list[dict[str, Any]] = []


class _Stage(BaseModel):
    kind: str
    fold: int
    weights: str | None = None
    settings: _Settings


class _Summary(BaseModel):
    train_images: int
    valid_images: int


class _Plan(BaseModel):
    """What is compared of a `plan.json`; whatever else stands in it is left alone."""

    quick: bool = False
    shared: bool = True
    looks: list[int] | None = None
    device: str
    threads: int
    versions: dict[str, str]
    summary: _Summary
    stages: dict[str, _Stage] = Field(min_length=1)

    @property
    def folds(self) -> list[int]:
        return sorted({stage.fold for stage in self.stages.values()})


def changes(folder: Path, recipe: Recipe, plan_file: str) -> Changes:
    """Compare the study in a folder, if there is one, with the run that is about to write into it.

    Args:
        folder: The study's folder.
        recipe: The recipe of the run.
        plan_file: The run's own `plan.json`, as `ablate.study.summary.plan_file` gives it.

    Raises:
        AblateError: A newer ablate has written the folder.
    """
    path = folder / "plan.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _refuse_newer(folder, content)
        before = _Plan.model_validate(content)
    except FileNotFoundError:
        return Changes()
    except (OSError, ValueError, RecursionError):
        return Changes(unread=(_unread(path, "has changed since the last run into this folder"),))
    now = _Plan.model_validate_json(plan_file)
    versions = tuple(_versions(before, now, techniques_of(recipe.technique_sources)))
    place = tuple(_place(before, now))
    values = _written(folder / "recipe.yaml")
    if values is None:
        unread = _unread(folder / "recipe.yaml", "has changed in the recipe and the images")
        return Changes(versions=versions, place=place, unread=(unread,))
    then, new = complete(values, recipe.to_dict())
    same_data = then.get("data") == new.get("data") and before.quick == now.quick
    what = "images, labels or columns" if recipe.data.tabular else "images or labels"
    data = [*(_data(before, now, what) if same_data else ()), *_weights(before, now)]
    return Changes(tuple(differences(then, new)), tuple(data), versions, place)


def refuse(found: Changes, folder: Path, fresh: bool) -> None:
    """Stop before results are mixed that do not fit together.

    Args:
        found: What has changed.
        folder: The study's folder.
        fresh: Whether everything is to be computed again, so that nothing is mixed.

    Raises:
        AblateError: Images or versions have changed, and it is not.
    """
    problems = []
    if found.data:
        problems.append(
            f"{folder}: {_listed(found.data)} have changed since this study was begun, and its results are "
            "of the earlier ones; `--fresh` computes it again with those that are there now, another name "
            "or --out keeps both, or restore the earlier ones."
        )
    if found.versions:
        then = _listed(version.what.format(version.then) for version in found.versions)
        now = _listed(version.what.format(version.now) for version in found.versions)
        problems.append(
            f"{folder}: was begun with {then}, this is {now}, and the results would not fit together; "
            "`--fresh` computes it again with what is installed now, another name or --out keeps both, or "
            "install the earlier versions, which plan.json names."
        )
    if problems and not fresh:
        raise AblateError("\n".join(problems))


def told(found: Changes, kept: int, total: int) -> list[str]:
    """What to say where something has changed and the run goes on; nothing where nothing has.

    Args:
        found: What has changed.
        kept: Stages that the run needs and that are there already.
        total: Stages that the run needs.
    """
    sections = {
        "The recipe has changed since the last run into this folder:": found.recipe,
        "The data have changed since the last run into this folder:": found.data,
        "The versions have changed since the last run into this folder:": found.versions,
        "This run is made in another way than the last one into this folder:": found.place,
    }
    lines = list(found.unread)
    for title, items in sections.items():
        lines += [title, *(f"  {item}" for item in items)] if items else []
    return [*lines, _kept(kept, total)] if lines else []


def _refuse_newer(folder: Path, content: Any) -> None:
    schema = content.get("schema", SCHEMA) if isinstance(content, dict) else SCHEMA
    if isinstance(schema, int) and schema > SCHEMA:
        raise AblateError(
            f"{folder}: was written by a newer ablate (plan.json has schema {schema}, this one knows "
            f"{SCHEMA}); update ablate, or use another name or --out."
        )


def _unread(path: Path, what: str) -> str:
    return f"{path}: cannot be read, so what {what} cannot be told; it is written anew."


def _written(path: Path) -> dict[str, Any] | None:
    """The recipe that a study was run by, as it stands in its folder."""
    try:
        # neither variables nor paths are resolved: that was done before it was written
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    document = Document(values, {(): Place(str(path), 1)})
    read_technique_files(document)  # what it cannot read stays a path, which differs from any text
    return document.values


def _data(before: _Plan, now: _Plan, what: str) -> Iterator[str]:
    """The sides of the split whose images, or whatever else is known of them, differ: in folds of both."""
    then, new = _fingerprints(before), _fingerprints(now)
    for side, word in _SIDES.items():
        known = [fold for fold in now.folds if then.get((side, fold)) and new.get((side, fold))]
        changed = [fold for fold in known if then[side, fold] != new[side, fold]]
        if changed:
            counts = _counts(side, before, now) if before.folds == now.folds else ""
            yield f"the {word} {'images' if counts else what}{_of_folds(changed, now.folds)}{counts}"


def _fingerprints(plan: _Plan) -> dict[tuple[str, int], str | None]:
    return {
        (side, stage.fold): value
        for stage in plan.stages.values()
        for side, value in stage.settings.data.items()
    }


def _of_folds(changed: list[int], folds: list[int]) -> str:
    if folds == [0]:  # most studies have no folds to speak of
        return ""
    return f" of fold{'s' if len(changed) > 1 else ''} {_listed(map(str, changed))}"


def _counts(side: str, before: _Plan, now: _Plan) -> str:
    """How many images there were and are, where that differs; of the training images in the first fold."""
    then, new = (getattr(plan.summary, f"{side}_images", None) for plan in (before, now))
    if then == new:
        return ""
    several = len(now.folds) > 1
    where = (f"fold {now.folds[0]}: " if side == "train" else "all folds: ") if several else ""
    return f" ({where}{then:,} then, {new:,} now)"


def _weights(before: _Plan, now: _Plan) -> Iterator[str]:
    """The files of initial weights that have the same path and another content."""
    then, new = (
        {stage.weights: stage.settings.model.get("weights") for stage in plan.stages.values()}
        for plan in (before, now)
    )
    for path in sorted(path for path in new if path):
        if then.get(path) and new[path] and then[path] != new[path]:
            yield f"the initial weights in {path}"


def _versions(before: _Plan, now: _Plan, own: Collection[str]) -> Iterator[Version]:
    """Versions that differ, of what both plans use; the recipe's own techniques are part of the recipe."""
    then = _all_versions(before, own)
    for what, version in _all_versions(now, own).items():
        if what in then and then[what] != version:
            yield Version(what, then[what], version)


def _all_versions(plan: _Plan, own: Collection[str]) -> dict[str, str]:
    found = {f"{package} {{}}": version for package, version in plan.versions.items()}
    for stage in plan.stages.values():
        for identity in stage.settings.techniques:
            for name, version, source in _identities(identity):
                if name not in own:
                    found[f"version {{}} of {name}"] = version
                    found |= {f"source {{}} of {name}": source[:8]} if source else {}
    for stage in plan.stages.values():
        what = _KINDS.get(stage.kind, f"ablate's {stage.kind}")
        found[f"version {{}} of {what}"] = str(stage.settings.version)
    return found


def _identities(identity: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, version and source hash (if any) of a technique, and of those that its own identity contains."""
    if "name" in identity and "version" in identity:
        yield str(identity["name"]), str(identity["version"]), str(identity.get("source", ""))
    for value in identity.values():
        if isinstance(value, dict):
            yield from _identities(value)


def _place(before: _Plan, now: _Plan) -> Iterator[str]:
    then, new = _surroundings(before), _surroundings(now)
    for name, value in new.items():
        if name in then and then[name] != value:
            yield f"{name}: {then[name]} → {value}"


def _surroundings(plan: _Plan) -> dict[str, Any]:
    # threads stand in a device's identity only where they can change a result
    identity = devices.identity(plan.device, plan.threads)
    return {
        "quick": "yes" if plan.quick else "no",
        "sharing": "on" if plan.shared else "off",
        "seeds": f"until decided, up to {plan.looks[-1]}" if plan.looks else "those of the recipe",
        "device": identity.pop("class"),
        **identity,
    }


def _kept(kept: int, total: int) -> str:
    if kept == total:
        return f"All stages that it takes ({total}) still hold and are reused."
    if not kept:
        return f"None of the stages that it takes ({total}) is there yet; all are computed."
    holds = "holds and is" if kept == 1 else "hold and are"
    rest = total - kept
    return f"{kept} of {total} stages still {holds} reused; {rest} {'is' if rest == 1 else 'are'} computed."


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
