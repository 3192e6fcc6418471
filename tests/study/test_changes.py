"""ablate.study.changes: what is told and what is refused before a study's folder is written."""

from __future__ import annotations

import copy
import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from ablate.errors import AblateError
from ablate.recipe.differences import differences
from ablate.recipe.load import set_value
from ablate.recipe.recipe import Recipe
from ablate.study import plan as plan_module
from ablate.study.changes import Changes, changes, refuse, told
from ablate.study.planning import plan_prepared
from ablate.study.prepare import prepare
from ablate.study.summary import plan_file
from ablate.techniques.augment import Augment
from ablate.techniques.cutmix import CutMix
from ablate.techniques.mixup import MixUp

VALUES: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "phases": [{"name": "one", "epochs": 3, "lr": 3e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "techniques": {"mixup": {"phases": ["two"]}},
    "study": {"baseline": ["normalize"], "vary": ["mixup", "tta"], "seeds": 1, "smallest_effect": 0.01},
}


def planned(recipe: Recipe, *, device: str = "cpu", threads: int = 1, quick: bool = False) -> str:
    """The text of `plan.json` of a run that is about to begin."""
    prepared = prepare(recipe, quick=quick)
    plan = plan_prepared(recipe, prepared, device, threads)
    return plan_file(recipe, plan, prepared, Path("store"), device, threads, quick)


def write(folder: Path, recipe: Recipe, plan: str) -> Path:
    """A study's folder as a run leaves it, as far as it is compared."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    YAML().dump(recipe.to_dict(), text)
    (folder / "recipe.yaml").write_text(text.getvalue())
    (folder / "plan.json").write_text(plan)
    return folder


def edited(plan: str, **values: Any) -> str:
    """A `plan.json` with some values set, by dotted name with `__`."""
    content = json.loads(plan)
    for name, value in values.items():
        *path, last = name.split("__")
        node = content
        for key in path:
            node = node[key]
        node[last] = value
    return json.dumps(content)


def between(then: dict[str, Any], now: dict[str, Any], folder: Path) -> Changes:
    """What changes from one recipe to another; one plan serves both, since only recipes count."""
    first = Recipe.from_dict(then)
    plan = planned(first)
    return changes(write(folder, first, plan), Recipe.from_dict(now), plan)


def with_values(overrides: dict[str, Any]) -> dict[str, Any]:
    return Recipe.from_dict(VALUES, overrides).to_dict()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study of `VALUES`. Only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = Recipe.from_dict(VALUES)
        return write(tmp_path_factory.mktemp("begun") / "tiny", recipe, planned(recipe))


@pytest.fixture
def plan(begun: Path) -> str:
    return (begun / "plan.json").read_text()


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    return write(tmp_path / "tiny", Recipe.from_dict(VALUES), (begun / "plan.json").read_text())


class TestNothing:
    def test_without_an_earlier_study(self, tmp_path: Path, plan: str):
        assert changes(tmp_path / "new", Recipe.from_dict(VALUES), plan) == Changes()

    def test_with_the_same_recipe(self, begun: Path, plan: str):
        found = changes(begun, Recipe.from_dict(VALUES), plan)
        assert found == Changes()
        assert told(found, 0, 10) == []
        refuse(found, begun, fresh=False)

    def test_with_the_study_s_own_copy_of_the_recipe(self, begun: Path, plan: str):
        assert changes(begun, Recipe.load(begun / "recipe.yaml"), plan) == Changes()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("batch_size", 64),
            ("presize", None),
            ("data", {}),
            ("data.source", "digits"),
            ("data.split", {"random": 0.2, "stratify": True, "group": None}),
            ("study.design", "one_at_a_time"),
            ("phases.two.freeze", False),
            ("techniques.mixup.alpha", 0.4),
            ("techniques.tta", {}),
            ("techniques.augment", {"max_rotate": Augment().max_rotate}),
        ],
    )
    def test_a_default_written_out_is_no_change(self, begun: Path, plan: str, name: str, value: Any):
        assert changes(begun, Recipe.from_dict(VALUES, {name: value}), plan) == Changes()

    def test_nor_is_another_order_of_keys(self, begun: Path, plan: str):
        backwards = {name: VALUES[name] for name in reversed(VALUES)}
        assert changes(begun, Recipe.from_dict(backwards), plan) == Changes()

    def test_nor_is_a_short_form_of_an_option(self, tmp_path: Path):
        short, long = (
            with_values({"techniques.progressive_resizing": {"one": size}}) for size in (12, {"size": 12})
        )
        assert between(short, long, tmp_path) == Changes()

    def test_nor_is_a_path_made_absolute(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(photos.parent)
        then, now = (VALUES | {"data": {"root": root}} for root in ("photos", str(photos)))
        assert between(then, now, tmp_path / "tiny") == Changes()


FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "model.arch": ("test_vit", st.sampled_from(["resnet18", "resnet34"])),
    "size": (16, st.integers(17, 999)),
    "batch_size": (64, st.integers(1, 63)),
    "weight_decay": (0.01, st.floats(0.02, 1)),
    "precision": ("float32", st.sampled_from(["bfloat16", "float16"])),
    "phases.one.epochs": (3, st.integers(4, 99)),
    "phases.two.lr": (1e-3, st.floats(1e-8, 9e-4)),
    "techniques.mixup.alpha": (0.4, st.floats(0.5, 2)),
    "techniques.tta.n": (4, st.integers(5, 20)),
    "study.seeds": (1, st.integers(2, 50)),
    "study.metric": ("accuracy", st.sampled_from(["balanced_accuracy", "log_loss"])),
    "study.smallest_effect": (0.01, st.floats(0.02, 1)),
}


class TestRecipe:
    @given(data=st.data())
    def test_every_changed_field_has_its_line_and_nothing_else(self, data: st.DataObject, begun: Path):
        names = data.draw(st.lists(st.sampled_from(list(FIELDS)), unique=True))
        values = {name: data.draw(FIELDS[name][1]) for name in names}
        plan = (begun / "plan.json").read_text()
        found = changes(begun, Recipe.from_dict(VALUES, values), plan)
        assert found == Changes(
            recipe=tuple(
                f"{name}: {before} → {values[name]}" for name, (before, _) in FIELDS.items() if name in values
            )
        )

    @pytest.mark.parametrize(
        ("name", "value", "line"),
        [
            ("deterministic", True, "deterministic: false → true"),
            ("presize", 32, "presize: not set → 32"),
            ("phases.two.lr", [1e-6, 1e-3], "phases.two.lr: 0.001 → [1e-06, 0.001]"),
            ("techniques.mixup.phases", ["one", "two"], "techniques.mixup.phases: [two] → [one, two]"),
            ("study.vary", ["mixup"], "study.vary: [mixup, tta] → [mixup]"),
            (
                "study.vary",
                ["mixup", {"size": [16, 32]}],
                "study.vary: [mixup, tta] → [mixup, {size: [16, 32]}]",
            ),
            ("data.test", {"random": 0.1}, "data.test: added, {random: 0.1, seed: 0}"),
            ("data.split", {"folds": 3}, None),
        ],
    )
    def test_lines(self, begun: Path, plan: str, name: str, value: Any, line: str | None):
        found = changes(begun, Recipe.from_dict(VALUES, {name: value}), plan).recipe
        expected = (line,) if line else ("data.split.random: 0.2 → not set", "data.split.folds: not set → 3")
        assert found == expected

    def test_phases_go_by_name(self, begun: Path, plan: str):
        two = VALUES["phases"][1] | {"epochs": 8}
        now = VALUES | {"phases": [{"name": "warm", "epochs": 2}, two], "techniques": {}}
        found = changes(begun, Recipe.from_dict(now), plan).recipe
        assert found == (
            "phases.warm: added, {epochs: 2, freeze: false, lr: 0.001, lr_spread: 1.0}",
            "phases.two.epochs: 1 → 8",
            "phases.one: removed, it was {epochs: 3, freeze: false, lr: 0.003, lr_spread: 1.0}",
            "techniques.mixup.phases: [two] → not set",
        )

    def test_another_order_of_phases_is_a_change(self, begun: Path, plan: str):
        now = VALUES | {"phases": VALUES["phases"][::-1]}
        assert changes(begun, Recipe.from_dict(now), plan).recipe == ("phases: [one, two] → [two, one]",)

    def test_variants_with_names_go_by_name(self, tmp_path: Path):
        def design(*alphas: float) -> dict[str, Any]:
            variants = [{"name": f"v{i}", "set": {"techniques.mixup.alpha": a}} for i, a in enumerate(alphas)]
            return VALUES | {"study": {"seeds": 1, "design": variants}}

        found = between(design(0.2, 0.3), design(0.2, 0.5), tmp_path)
        assert found.recipe == ("study.design.v1.set.techniques.mixup.alpha: 0.3 → 0.5",)

    def test_a_phase_among_options_has_no_defaults_of_its_own(self, tmp_path: Path):
        """`further` takes a rate that is left out from the last phase, so 0.001 is another rate."""
        then, now = (
            with_values({"techniques.mixup": {"further": {"epochs": 1} | more}})
            for more in ({}, {"lr": 1e-3})
        )
        assert between(then, now, tmp_path).recipe == ("techniques.mixup.further.lr: not set → 0.001",)

    def test_a_technique_that_is_gone_is_told(self, folder: Path, plan: str):
        text = (folder / "recipe.yaml").read_text().replace("mixup:", "blur: {radius: 3}\n  mixup:", 1)
        (folder / "recipe.yaml").write_text(text)
        found = changes(folder, Recipe.from_dict(VALUES), plan)
        assert found.recipe == ("techniques.blur: removed, it was {radius: 3}",)

    def test_a_recipe_that_this_ablate_refuses_is_compared_as_it_stands(self, folder: Path, plan: str):
        with (folder / "recipe.yaml").open("a") as file:
            file.write("colour: blue\n")
        found = changes(folder, Recipe.from_dict(VALUES, {"size": 32, "batch_size": 64}), plan)
        assert found.recipe == (
            "size: 16 → 32",
            "batch_size: not set → 64",
            "colour: blue → not set",
        )

    def test_what_still_holds_is_kept(self, begun: Path, plan: str):
        """The issue: a recipe changed between two runs into the same folder: say what, keep the rest."""
        recipe = Recipe.from_dict(VALUES, {"phases.two.epochs": 2, "study.smallest_effect": 0.02})
        new = planned(recipe)
        found = changes(begun, recipe, new)
        refuse(found, begun, fresh=False)
        stages, known = json.loads(new)["stages"], json.loads(plan)["stages"]
        assert told(found, len(stages.keys() & known.keys()), len(stages)) == [
            "The recipe has changed since the last run into this folder:",
            "  phases.two.epochs: 1 → 2",
            "  study.smallest_effect: 0.01 → 0.02",
            "1 of 6 stages still holds and is reused; 5 are computed.",
        ]


NAMES = st.text("abcdef", min_size=1, max_size=3)
SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab1-. []", max_size=90)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(NAMES, inner, max_size=4)
        | st.lists(st.builds(lambda name, value: {"name": name, "x": value}, NAMES, inner), max_size=4)
    ),
    max_leaves=12,
)


class TestDifferences:
    @given(TREES)
    def test_nothing_differs_from_itself(self, tree: Any):
        assert list(differences(tree, copy.deepcopy(tree))) == []

    @given(TREES, TREES)
    def test_what_differs_is_told_in_short_lines_whose_sides_differ(self, then: Any, now: Any):
        lines = list(differences({"top": then}, {"top": now}))
        assert bool(lines) == (then != now)
        for line in lines:
            name, _, values = line.partition(": ")
            assert name.split(".")[0] == "top"
            assert len(values) <= 2 * 60 + 3
            if not values.startswith(("added, ", "removed, ")):
                assert len(set(values.split(" → "))) == 2

    def test_of_long_values_the_part_is_shown_that_differs(self):
        names = [f"technique_{i}" for i in range(40)]
        (line,) = differences({"vary": names}, {"vary": [*names[:30], "tta"]})
        assert line.startswith("vary: …technique_29, technique_30, ")
        assert line.endswith(" → …technique_29, tta]")


def study_of(photos: Path, folder: Path, **data: Any) -> tuple[Path, Recipe]:
    """A study of the photos, begun."""
    recipe = Recipe.from_dict(VALUES | {"data": {"root": str(photos), "split": {"random": 0.25}} | data})
    return write(folder / "tiny", recipe, planned(recipe)), recipe


def paint(path: Path) -> None:
    Image.new("RGB", (40, 40), (1, 2, 3)).save(path)


def by_table(photos: Path) -> dict[str, Any]:
    return {"table": "table.csv", "split": {"column": "is_val"}}


def relabel(photos: Path) -> None:
    """Another class for the first image, which is one to train on."""
    rows = list(csv.reader((photos / "table.csv").open()))
    rows[1][1] = "dog"
    with (photos / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


class TestData:
    @pytest.mark.parametrize(
        ("change", "sides"),
        [
            (lambda photos: paint(photos / "cat" / "0.jpg"), ("the training images or labels",)),
            (lambda photos: paint(photos / "cat" / "7.png"), ("the validation images or labels",)),
            (relabel, ("the training images or labels",)),
        ],
    )
    def test_only_the_side_that_changed_is_named(
        self, photos: Path, tmp_path: Path, change: Callable[[Path], None], sides: tuple[str, ...]
    ):
        folder, recipe = study_of(photos, tmp_path, **by_table(photos))
        assert changes(folder, recipe, planned(recipe)) == Changes()
        change(photos)
        assert changes(folder, recipe, planned(recipe)) == Changes(data=sides)

    def test_data_changed_under_a_study_are_refused(self, photos: Path, tmp_path: Path):
        """The issue: data changed under a finished study: say so, refuse to mix."""
        folder, recipe = study_of(photos, tmp_path)
        for i in range(4):
            paint(photos / "cat" / f"new{i}.png")
        found = changes(folder, recipe, planned(recipe))
        assert found.data == (
            "the training images (18 then, 21 now)",
            "the validation images (6 then, 7 now)",
        )
        with pytest.raises(AblateError) as error:
            refuse(found, folder, fresh=False)
        assert str(error.value) == (
            f"{folder}: the training images (18 then, 21 now) and the validation images (6 then, 7 now) have "
            "changed since this study was begun, and its results are of the earlier ones; `--fresh` computes "
            "it again with those that are there now, another name or --out keeps both, or restore the "
            "earlier ones."
        )

    def test_with_fresh_they_are_told(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path)
        paint(photos / "cat" / "new.png")
        found = changes(folder, recipe, planned(recipe))
        refuse(found, folder, fresh=True)
        assert told(found, 0, 6) == [
            "The data have changed since the last run into this folder:",
            *(f"  {line}" for line in found.data),
            "None of the stages that it takes (6) is there yet; all are computed.",
        ]

    def test_images_of_the_test_split_count(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path, test={"random": 0.25})
        plan = planned(recipe)
        stages = json.loads(plan)["stages"]
        for stage in stages.values():
            stage["settings"]["data"] = {
                side: "new" if side == "test" else value for side, value in stage["settings"]["data"].items()
            }
        found = changes(folder, recipe, edited(plan, stages=stages))
        assert found.data == ("the test images or labels",)

    def test_folds_are_named(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path, split={"folds": 3})
        before = planned(recipe)
        paint(photos / "dog" / "2.jpg")
        after = planned(recipe)
        found = changes(folder, recipe, after)
        (held_out,) = [
            fold
            for fold in range(3)
            if fingerprint(before, "valid", fold) != fingerprint(after, "valid", fold)
        ]
        first, second = [fold for fold in range(3) if fold != held_out]
        assert found.data == (
            f"the training images or labels of folds {first} and {second}",
            f"the validation images or labels of fold {held_out}",
        )

    def test_counts_say_which_folds_they_are_of(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path, split={"folds": 3})
        for i in range(3):
            paint(photos / "dog" / f"new{i}.png")
        found = changes(folder, recipe, planned(recipe))
        assert found.data == (
            "the training images of folds 0, 1 and 2 (fold 0: 16 then, 18 now)",
            "the validation images of folds 0, 1 and 2 (all folds: 24 then, 27 now)",
        )

    def test_a_fold_that_one_side_has_is_no_change_of_data(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path, split={"folds": 3})
        fewer = recipe.override({"study.folds": [1, 2]})
        assert changes(folder, fewer, planned(fewer)) == Changes(recipe=("study.folds: not set → [1, 2]",))
        paint(photos / "dog" / "2.jpg")
        assert changes(folder, fewer, planned(fewer)).data

    def test_another_data_section_is_a_changed_recipe(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path)
        other = recipe.override({"data.split.random": 0.5})
        assert changes(folder, other, planned(other)) == Changes(recipe=("data.split.random: 0.25 → 0.5",))

    @pytest.mark.parametrize("known", [None, "absent"])
    def test_without_earlier_fingerprints_there_is_nothing_to_say(
        self, folder: Path, plan: str, known: str | None
    ):
        content = json.loads(plan)
        for stage in content["stages"].values():
            stage["settings"]["data"] = {} if known else dict.fromkeys(stage["settings"]["data"])
        (folder / "plan.json").write_text(json.dumps(content))
        assert changes(folder, Recipe.from_dict(VALUES), plan) == Changes()

    def test_initial_weights_with_another_content_are_refused(self, tmp_path: Path):
        weights = tmp_path / "w.safetensors"
        weights.write_bytes(b"one")
        recipe = Recipe.from_dict(VALUES, {"model.weights": str(weights)})
        folder = write(tmp_path / "tiny", recipe, planned(recipe))
        weights.write_bytes(b"another")
        found = changes(folder, recipe, planned(recipe))
        assert found == Changes(data=(f"the initial weights in {weights}",))
        with pytest.raises(AblateError, match=r"the initial weights in .* have changed"):
            refuse(found, folder, fresh=False)


def fingerprint(plan: str, side: str, fold: int) -> str:
    stages = json.loads(plan)["stages"].values()
    return next(
        s["settings"]["data"][side] for s in stages if s["fold"] == fold and side in s["settings"]["data"]
    )


class TestVersions:
    def test_another_torch_is_refused(self, begun: Path, plan: str):
        """The issue: another version of torch than the one that the study was begun with: say so, --fresh."""
        here = json.loads(plan)["versions"]["torch"]
        found = changes(begun, Recipe.from_dict(VALUES), edited(plan, versions__torch="9.15"))
        assert [str(version) for version in found.versions] == [f"torch {here} → 9.15"]
        with pytest.raises(AblateError) as error:
            refuse(found, begun, fresh=False)
        assert str(error.value) == (
            f"{begun}: was begun with torch {here}, this is torch 9.15, and the results would not fit "
            "together; `--fresh` computes it again with what is installed now, another name or --out keeps "
            "both, or install the earlier versions, which plan.json names."
        )
        refuse(found, begun, fresh=True)
        assert told(found, 0, 6)[1] == f"  torch {here} → 9.15"

    @pytest.mark.parametrize("package", ["fastai", "timm", "pillow", "opencv-python-headless"])
    def test_other_packages_count_too(self, begun: Path, plan: str, package: str):
        content = json.loads(plan)
        content["versions"][package] = "0.1"
        (version,) = changes(begun, Recipe.from_dict(VALUES), json.dumps(content)).versions
        assert str(version).startswith(f"{package} ")

    def test_a_package_that_only_one_plan_names_is_no_statement(self, begun: Path, plan: str):
        recipe = Recipe.from_dict(VALUES)
        assert changes(begun, recipe, edited(plan, versions__libjpeg="3")) == Changes()

    def test_a_technique_in_both_plans_counts(self, begun: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(MixUp, "version", MixUp.version + 1)
        recipe = Recipe.from_dict(VALUES)
        (version,) = changes(begun, recipe, planned(recipe)).versions
        assert str(version) == f"version {MixUp.version - 1} → {MixUp.version} of mixup"

    def test_a_technique_inside_another_s_identity_counts(self, begun: Path, monkeypatch: pytest.MonkeyPatch):
        """Of these techniques only tta is on, and it shows images under the transforms of augment."""
        monkeypatch.setattr(Augment, "version", 7)
        recipe = Recipe.from_dict(VALUES)
        (version,) = changes(begun, recipe, planned(recipe)).versions
        assert version.what.format(version.now) == "version 7 of augment"

    def test_a_technique_in_one_plan_does_not(self, begun: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(CutMix, "version", 7)
        recipe = Recipe.from_dict(VALUES, {"study.vary": ["mixup", "tta", "cutmix"]})
        assert changes(begun, recipe, planned(recipe)).versions == ()

    @pytest.mark.parametrize(
        ("kind", "words"), [("fit", "ablate's training"), ("predict", "ablate's prediction")]
    )
    def test_kinds_of_stages_count(self, begun: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str):
        before = plan_module.STAGE_VERSIONS[kind]
        monkeypatch.setitem(plan_module.STAGE_VERSIONS, kind, before + 1)
        recipe = Recipe.from_dict(VALUES)
        (version,) = changes(begun, recipe, planned(recipe)).versions
        assert str(version) == f"version {before} → {before + 1} of {words}"

    def test_a_kind_of_stage_in_one_plan_does_not(self, begun: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(plan_module.STAGE_VERSIONS, "lr_find", 7)
        recipe = Recipe.from_dict(VALUES, {"phases.two.lr": "find"})
        assert changes(begun, recipe, planned(recipe)).versions == ()

    def test_data_and_versions_are_told_together(self, photos: Path, tmp_path: Path):
        folder, recipe = study_of(photos, tmp_path)
        paint(photos / "cat" / "0.jpg")
        paint(photos / "cat" / "1.png")
        found = changes(folder, recipe, edited(planned(recipe), versions__timm="0.1"))
        with pytest.raises(AblateError) as error:
            refuse(found, folder, fresh=False)
        first, second = str(error.value).splitlines()
        assert "images" in first
        assert "this is timm 0.1" in second


class TestPlace:
    def test_another_thread_count_is_told(self, begun: Path):
        recipe = Recipe.from_dict(VALUES)
        found = changes(begun, recipe, planned(recipe, threads=2))
        assert found == Changes(place=("threads: 1 → 2",))
        refuse(found, begun, fresh=False)
        assert told(found, 0, 6) == [
            "This run is made in another way than the last one into this folder:",
            "  threads: 1 → 2",
            "None of the stages that it takes (6) is there yet; all are computed.",
        ]

    def test_another_device_is_told(self, begun: Path):
        recipe = Recipe.from_dict(VALUES)
        found = changes(begun, recipe, planned(recipe, device="cuda", threads=8))
        assert found.place == ("device: cpu → cuda",)

    def test_threads_that_change_no_result_are_not(self, tmp_path: Path):
        recipe = Recipe.from_dict(VALUES)
        folder = write(tmp_path, recipe, planned(recipe, device="cuda", threads=8))
        assert changes(folder, recipe, planned(recipe, device="cuda", threads=2)) == Changes()

    def test_sharing_is_told_and_was_on_where_nothing_is_said(self, folder: Path, plan: str):
        recipe, content = Recipe.from_dict(VALUES), json.loads(plan)
        content.pop("shared", None)
        (folder / "plan.json").write_text(json.dumps(content))
        assert changes(folder, recipe, edited(plan, shared=True)) == Changes()
        assert changes(folder, recipe, edited(plan, shared=False)).place == ("sharing: on → off",)

    def test_a_whole_study_in_a_quick_run_s_folder_is_no_change_of_data(self, photos: Path, tmp_path: Path):
        recipe = Recipe.from_dict(VALUES)
        folder = write(tmp_path, recipe, planned(recipe, quick=True))
        assert changes(folder, recipe, planned(recipe)) == Changes(place=("quick: yes → no",))


class TestFilesThatCannotBeRead:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: text[: len(text) // 2],
            lambda text: "",
            lambda text: "[]",
            lambda text: "{}",
            lambda text: "[" * 100_000,
            lambda text: edited(text, stages=3),
            lambda text: edited(text, threads="all"),
            lambda text: b"\xff\xfe\x00" + text.encode(),
        ],
    )
    def test_a_damaged_plan_is_told_and_is_no_study(
        self, folder: Path, plan: str, damage: Callable[[str], str | bytes]
    ):
        damaged = damage(plan)
        (folder / "plan.json").write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
        found = changes(folder, Recipe.from_dict(VALUES, {"size": 32}), plan)
        refuse(found, folder, fresh=False)
        assert told(found, 6, 6) == [
            f"{folder / 'plan.json'}: cannot be read, so what has changed since the last run into this "
            "folder cannot be told; it is written anew.",
            "All stages that it takes (6) still hold and are reused.",
        ]

    @pytest.mark.parametrize("text", [None, "", "a: [", "- 1", "a: &x [*x]\nb: *y", "a: 1\na: 2", "\0"])
    def test_without_the_recipe_only_the_plans_are_compared(self, folder: Path, plan: str, text: str | None):
        (folder / "recipe.yaml").unlink()
        if text is not None:
            (folder / "recipe.yaml").write_text(text)
        found = changes(folder, Recipe.from_dict(VALUES, {"size": 32}), edited(plan, versions__torch="9.15"))
        assert len(found.versions) == 1
        assert found.recipe == found.data == ()
        assert told(found, 0, 6)[0].startswith(f"{folder / 'recipe.yaml'}: cannot be read, so ")

    @pytest.mark.parametrize("name", ["phases", "techniques", "data", "study", "model"])
    @pytest.mark.parametrize("value", [None, 3, "text", [[1]], [{"name": [1]}], {"a": {"b": None}}])
    def test_a_recipe_of_any_shape_is_compared(self, folder: Path, plan: str, name: str, value: Any):
        recipe = Recipe.from_dict(VALUES)
        document = copy.copy(recipe._document)
        document.values = recipe.to_dict()
        set_value(document, name, value)
        text = io.StringIO()
        YAML().dump(document.values, text)
        (folder / "recipe.yaml").write_text(text.getvalue())
        found = changes(folder, recipe, plan)
        assert all(line.startswith(name) for line in found.recipe)

    @pytest.mark.parametrize("more", [{}, {"stages": "elsewhere"}])
    def test_a_newer_schema_is_refused(self, folder: Path, plan: str, more: dict[str, Any]):
        (folder / "plan.json").write_text(edited(plan, schema=2, **more))
        with pytest.raises(AblateError, match=r"newer ablate \(plan.json has schema 2, this one knows 1\)"):
            changes(folder, Recipe.from_dict(VALUES), plan)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (0, "None of the stages that it takes (9) is there yet; all are computed."),
        (1, "1 of 9 stages still holds and is reused; 8 are computed."),
        (8, "8 of 9 stages still hold and are reused; 1 is computed."),
        (9, "All stages that it takes (9) still hold and are reused."),
    ],
)
def test_the_last_sentence_says_what_is_kept(kept: int, words: str):
    assert told(Changes(place=("threads: 1 → 2",)), kept, 9)[-1] == words


def test_nothing_heavy_is_imported():
    code = "import sys, ablate.study.changes; print({'torch', 'pandas', 'fastai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
