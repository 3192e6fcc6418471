"""Techniques that a recipe brings along: as files that it names, and from `Recipe.with_technique`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ablate import techniques
from ablate.errors import AblateError, RecipeError
from ablate.recipe.recipe import Recipe
from ablate.recipe.technique_files import write_recipe
from ablate.techniques import InPhases, Technique

GLOW = '''\
"""Make images glow."""

from typing import ClassVar

from pydantic import Field

from ablate.techniques import InPhases


class Glow(InPhases):
    """Images glow."""

    name: ClassVar[str] = "glow"
    gain: float = Field(1.5, gt=0)

    def rates(self, rates, context):
        return [rate * self.gain for rate in rates]
'''
STUDY = "technique_files: [glow.py]\ntechniques: {glow: {gain: 0.5}}\nstudy: {vary: [glow]}\n"


class Own(InPhases):
    """Somebody's own."""

    name: ClassVar[str] = "own"
    by: float = 2.0

    def rates(self, rates, context):
        return [rate * self.by for rate in rates]


class MixDown(Technique):
    """Has a name that is taken."""

    name: ClassVar[str] = "mixup"


class Unnamed(Technique):
    """Has no name of its own."""


class Needs(Technique):
    """Has an option without a default."""

    name: ClassVar[str] = "needs"
    by: float

    def rates(self, rates, context):
        return [self.by for _ in rates]


@pytest.fixture
def glow(tmp_path: Path) -> Path:
    path = tmp_path / "glow.py"
    path.write_text(GLOW)
    return path


def plain(**study: Any) -> Recipe:
    values = {"name": "tiny", "size": 32, "phases": [{"name": "head", "epochs": 1}], "study": study}
    return Recipe.from_dict({key: value for key, value in values.items() if value})


class TestFiles:
    def test_a_file_beside_the_recipe(self, glow: Path, write: Callable[..., Path]):
        recipe = Recipe.load(write(STUDY))
        assert recipe.technique_sources == {"glow": GLOW}
        built = techniques.build("glow", recipe.techniques["glow"], recipe.technique_sources)
        assert built.rates([3.0], None) == [1.5]

    def test_a_recipe_in_memory_needs_no_file(self, glow: Path, write: Callable[..., Path]):
        recipe = Recipe.load(write(STUDY))
        glow.unlink()
        for again in (Recipe.from_dict(recipe.to_dict()), recipe.override({"size": 64})):
            assert again.technique_sources == {"glow": GLOW}
        assert recipe.override({"techniques.glow.gain": 3.0}).techniques["glow"] == {"gain": 3.0}

    def test_paths_are_relative_to_the_file_that_names_them(
        self, glow: Path, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        write(STUDY)
        (tmp_path / "deeper").mkdir()
        (tmp_path / "deeper" / "child.yaml").write_text("extends: ../r.yaml\nname: child\n")
        monkeypatch.chdir(tmp_path / "deeper")
        assert Recipe.load("child.yaml").technique_sources == {"glow": GLOW}
        bare = write("", name="bare.yaml")
        loaded = Recipe.load(bare, {"technique_files": ["../glow.py"], "study.vary": ["glow"]})
        assert loaded.technique_sources == {"glow": GLOW}
        assert Recipe.from_dict({**plain().to_dict(), "technique_files": [str(glow)]}).technique_sources

    def test_a_variable_in_a_path(
        self, glow: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("TRICKS", str(glow.parent))
        assert Recipe.load(write('technique_files: ["${TRICKS}/glow.py"]\n')).technique_sources

    def test_written_and_read_again(self, glow: Path, write: Callable[..., Path], tmp_path: Path):
        recipe = Recipe.load(write(STUDY)).with_technique(Own)
        write_recipe(recipe, tmp_path / "out")
        assert (tmp_path / "out" / "techniques" / "glow.py").read_text() == GLOW
        again = Recipe.load(tmp_path / "out" / "recipe.yaml")
        assert again.to_dict() == recipe.to_dict()
        write_recipe(plain(), tmp_path / "out")
        assert not [*(tmp_path / "out" / "techniques").iterdir()]

    @pytest.mark.parametrize("text", [GLOW.replace("\n", "\r\n"), "\ufeff" + GLOW])
    def test_line_ends_and_a_byte_order_mark_change_nothing(
        self, glow: Path, write: Callable[..., Path], text: str
    ):
        glow.write_bytes(text.encode())
        assert Recipe.load(write(STUDY)).technique_sources == {"glow": GLOW}


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("more", "wanted"),
        [
            ("technique_files: [none.py]", "r.yaml:6: technique_files.0 names none.py, but there is no file"),
            (
                "technique_files: [r.yaml]",
                "r.yaml:6: technique_files.0 names r.yaml, which is no Python file",
            ),
            ("technique_files: [a.py]", "r.yaml:6: technique_files.0 names a.py, which cannot be read"),
            (
                "technique_files: [latin.py]",
                "r.yaml:6: technique_files.0 names latin.py, which is not text in",
            ),
            ("technique_files: glow.py", "r.yaml:6: technique_files is 'glow.py', but must be a list."),
            ("technique_files: [3]", "r.yaml:6: technique_files.0 is 3, but must be text or a mapping"),
            ("technique_files: [{name: x}]", "r.yaml:6: technique_files.0.source is missing."),
            (
                "technique_files:\n- glow.py\n- broken.py",
                "r.yaml:8: technique_files.1 cannot be used: broken.py:1: this is not valid Python",
            ),
            (
                "technique_files: [empty.py]",
                "technique_files.0 cannot be used: empty.py: there is no technique",
            ),
            (
                "technique_files:\n- glow.py\n- other.py",
                "r.yaml:8: technique_files.1 has a technique glow, but glow.py has one of that name; give it",
            ),
            ("technique_files: [glow.py, sub/glow.py]", "technique_files.1 is a second file called glow.py;"),
            (
                "technique_files: [taken.py]",
                "has a technique mixup, but ablate has one of that name; give it",
            ),
            ("technique_files: [field.py]", "has a technique size, but that is a field of recipes; give it"),
            (
                "technique_files: [glow.py]\ntechniques: {glow: {gian: 1}}",
                "r.yaml:7: techniques.glow.gian is no",
            ),
            (
                "technique_files: [glow.py]\ntechniques: {glow: {gain: 0}}",
                "glow.gain is 0, but must be above 0",
            ),
            (
                "technique_files: [glow.py]\ntechniques: {glov: {}}",
                "glov is no technique; did you mean glow?",
            ),
            (
                "technique_files: [glow.py]\nstudy: {vary: [glov]}",
                "'glov' is no technique; did you mean glow?",
            ),
            (
                "technique_files: [glow.py]\nstudy: {vary: [{glow: [off, {gian: 1}]}]}",
                "gian is no setting; did",
            ),
            (
                "technique_files: [glow.py]\nstudy: {vary: [{technique_files: [[a.py], [b.py]]}]}",
                "holds for a whole study; set it in the recipe.",
            ),
            (
                "technique_files: [glow.py]\ntechniques: {glow: {phases: [tail]}}",
                "names a phase 'tail' that does",
            ),
        ],
    )
    def test_is_told_with_file_and_line(self, glow: Path, told: Callable[..., str], more: str, wanted: str):
        folder = glow.parent
        (folder / "a.py").mkdir()
        (folder / "sub").mkdir()
        (folder / "sub" / "glow.py").write_text(GLOW)
        (folder / "latin.py").write_bytes(b"# \xe4\n")
        (folder / "empty.py").write_text("")
        (folder / "broken.py").write_text("def (:\n")
        (folder / "other.py").write_text(GLOW)
        (folder / "taken.py").write_text(GLOW.replace('"glow"', '"mixup"'))
        (folder / "field.py").write_text(GLOW.replace('"glow"', '"size"'))
        assert wanted in told(more + "\n")


class TestWithTechnique:
    def test_an_instance_brings_its_options(self):
        recipe = plain(vary=["tta"]).with_technique(Own(by=3.0, phases=["head"]))
        assert recipe.techniques == {"own": {"by": 3.0, "phases": ["head"]}}
        assert recipe.study.vary == ["tta", "own"]
        built = techniques.build("own", recipe.techniques["own"], recipe.technique_sources)
        assert built.rates([2.0], None) == [6.0]
        assert type(built) is not Own  # but what its source says

    def test_a_class_has_its_defaults(self):
        recipe = plain().with_technique(Own)
        assert recipe.techniques == {"own": {}}
        assert recipe.study.vary == ["own"]

    def test_the_recipe_before_is_left_alone(self):
        before = plain(vary=["tta"])
        values = before.to_dict()
        before.with_technique(Own)
        assert before.to_dict() == values
        with pytest.raises(AblateError, match="'own' is no technique"):
            before.override({"study.baseline": ["own"]})

    def test_without_varying_it(self):
        recipe = plain(baseline=["normalize"]).with_technique(Own, vary=False)
        assert recipe.study.vary == []
        assert recipe.override({"study.baseline": ["own"]}).study.baseline == ["own"]

    def test_a_second_time_it_is_replaced(self):
        recipe = plain().with_technique(Own).with_technique(Own(by=5.0))
        assert recipe.techniques == {"own": {"by": 5.0}}
        assert recipe.study.vary == ["own"]
        assert [*recipe.technique_sources] == ["own"]

    def test_in_an_explicit_design_it_is_a_variant(self):
        recipe = plain(design=[["tta"]]).with_technique(Own).with_technique(Own(by=1.0))
        assert recipe.study.design == [["tta"], ["own"]]
        assert recipe.study.vary == []

    def test_one_that_is_varied_already(self):
        levels = {"own": ["off", {"by": 1.0}, {"by": 2.0}]}
        recipe = plain().with_technique(Own, vary=False).override({"study.vary": [levels]})
        assert recipe.with_technique(Own(by=4.0)).study.vary == [levels]

    def test_one_of_ablate_s_own_needs_no_file(self):
        recipe = plain().with_technique(techniques.registry()["mixup"](alpha=0.3))
        assert (recipe.techniques, recipe.technique_files) == ({"mixup": {"alpha": 0.3}}, [])

    def test_one_of_another_recipe_keeps_its_text(self):
        first = plain().with_technique(Own)
        loaded = techniques.known(first.technique_sources)["own"]
        assert plain().with_technique(loaded).technique_sources == first.technique_sources

    def test_two_recipes_in_one_notebook_do_not_mix(self):
        texts = [GLOW, GLOW.replace("* self.gain", "+ self.gain")]
        recipes = [
            Recipe.from_dict({**plain().to_dict(), "technique_files": [{"name": "glow", "source": text}]})
            for text in texts
        ]
        for recipe, wanted in [*zip(recipes, [6.0, 5.5], strict=True)] * 2:
            assert techniques.build("glow", {}, recipe.technique_sources).rates([4.0], None) == [wanted]

    @pytest.mark.parametrize(
        ("technique", "wanted"),
        [
            (MixDown(), "technique_files.0 has a technique mixup, but ablate has one of that name; give it"),
            (Unnamed, "with_technique: Unnamed has no name of its own; give it one, as in name: ClassVar"),
            (3, "with_technique: int is no technique; derive it from ablate.techniques.Technique."),
            (Path, "with_technique: Path is no technique"),
            ("glow", "with_technique: str is no technique"),
            (Needs, r"with_technique\(Needs\): techniques.needs.by is missing."),
        ],
    )
    def test_what_it_refuses(self, technique: Any, wanted: str):
        with pytest.raises(AblateError, match=wanted):
            plain().with_technique(technique)

    def test_errors_name_where_it_came_from(self):
        with pytest.raises(
            RecipeError, match=r"with_technique\(Own\): techniques.own.phases.0 names a phase"
        ):
            plain().with_technique(Own(phases=["tail"]))
