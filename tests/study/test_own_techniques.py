"""Techniques of one's own in a study: what they train, which keys they give, and what is told of a change."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from fastai.learner import Learner
from ruamel.yaml import YAML
from stages import Runner, tiny_recipe

from ablate import techniques
from ablate.cli import main
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.recipe.technique_files import write_recipe
from ablate.study.changes import changes, refuse
from ablate.study.graph import Plan
from ablate.study.planning import plan_prepared
from ablate.study.prepare import prepare
from ablate.study.study import Study
from ablate.study.summary import plan_file
from ablate.techniques import InPhases

VALUES: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 1, "lr": 2e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "study": {"baseline": ["normalize"], "seeds": 1, "smallest_effect": 0.01},
}
SHARE = 0.25


def share_of(rate: float) -> float:
    return rate * SHARE


class Slower(InPhases):
    """The rates are a share of what they are."""

    name: ClassVar[str] = "slower"

    def rates(self, rates, context):
        return [share_of(rate) for rate in rates]


SCRIPT = '''
import json
from typing import ClassVar

import torch
from ablate import Recipe
from ablate.techniques import InPhases

SHARE = 1 / 4


class Slower(InPhases):
    """The rates are a share of what they are."""

    name: ClassVar[str] = "slower"

    def rates(self, rates, context):
        return [rate * SHARE for rate in rates]


if __name__ == "__main__":
    recipe = Recipe.from_dict({values})
    study = recipe.with_technique(Slower(phases=["one"])).run({out!r}, threads=1)
    print("trained", [*study.trials.status])
'''
FRESH = """
import json, sys
from ablate.recipe.recipe import Recipe
from ablate.study.planning import plan_prepared
from ablate.study.prepare import prepare

recipe = Recipe.load(sys.argv[1])
plan = plan_prepared(recipe, prepare(recipe), "cpu", 1)
print(json.dumps([sorted(plan.stages), "torch" in sys.modules]))
"""


def planned(recipe: Recipe) -> Plan:
    return plan_prepared(recipe, prepare(recipe), "cpu", 1)


def other(recipe: Recipe, then: str, now: str) -> Recipe:
    """The recipe with another source of its technique."""
    values = recipe.to_dict()
    source = values["technique_files"][0]["source"]
    assert then in source
    values["technique_files"][0]["source"] = source.replace(then, now)
    return Recipe.from_dict(values)


def test_it_trains_what_its_source_says(photos: Path, tmp_path: Path):
    torch.set_num_threads(1)
    recipe = tiny_recipe(photos, study__vary=[]).with_technique(Slower(phases=["body"]))
    rates = {"phases.body.lr": [lr * SHARE for lr in recipe.phases[1].lr]}
    found = Runner(recipe, tmp_path / "own").predictions("baseline+slower")
    wanted = Runner(tiny_recipe(photos, study__vary=[]).override(rates), tmp_path / "field").predictions()
    plain = Runner(recipe, tmp_path / "own").predictions("baseline")
    pd.testing.assert_frame_equal(found, wanted)
    assert not found.equals(plain)


def test_a_learner_has_it(photos: Path):
    recipe = tiny_recipe(photos, study__vary=[]).with_technique(Slower)
    assert recipe.parts(on=["slower"]).on["slower"].rates([4.0], None) == [1.0]
    assert isinstance(recipe.learner(on=["slower"]), Learner)
    with pytest.raises(AblateError, match="on: 'slowed' is no technique; did you mean slower"):
        recipe.learner(on=["slowed"])


def test_the_same_source_gives_the_same_keys_in_another_process(tmp_path: Path):
    recipe = Recipe.from_dict(VALUES).with_technique(Slower(phases=["two"]))
    write_recipe(recipe, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, tmp_path / "recipe.yaml"], capture_output=True, text=True, check=True
    )
    keys, imported_torch = json.loads(done.stdout)
    assert keys == sorted(planned(recipe).stages)
    assert not imported_torch


def test_another_source_gives_other_keys_to_what_it_changes():
    recipe = Recipe.from_dict(VALUES).with_technique(Slower(phases=["two"]))
    before, after = planned(recipe), planned(other(recipe, "SHARE = 0.25", "SHARE = 0.5"))
    for one, again in zip(before.trials, after.trials, strict=True):
        assert one.fits[0] == again.fits[0]  # it is not active there
        assert (one.fits[1] == again.fits[1]) == (one.variant == "baseline")
        assert (one.predict == again.predict) == (one.variant == "baseline")


def test_a_changed_source_is_told_as_a_change_of_the_recipe(tmp_path: Path):
    recipe = Recipe.from_dict(VALUES).with_technique(Slower)
    changed = other(recipe, "SHARE = 0.25", "SHARE = 0.5")
    write_recipe(recipe, tmp_path)
    texts = []
    for one in (recipe, changed):
        prepared = prepare(one)
        texts.append(plan_file(one, planned(one), prepared, Path("store"), "cpu", 1, False))
    (tmp_path / "plan.json").write_text(texts[0])
    assert changes(tmp_path, recipe, texts[0]) == changes(tmp_path / "none", recipe, texts[0])
    found = changes(tmp_path, changed, texts[1])
    assert len(found.recipe) == 1
    assert found.recipe[0].startswith("technique_files.slower.source: …")
    assert "SHARE = 0.25" in found.recipe[0].split(" → ")[0]
    assert "SHARE = 0.5" in found.recipe[0].split(" → ")[1]
    assert (found.versions, found.data) == ((), ())
    refuse(found, tmp_path, fresh=False)
    (tmp_path / "techniques" / "slower.py").write_text("def (:")  # somebody has edited the study's copy
    assert any("technique_files" in line for line in changes(tmp_path, recipe, texts[0]).recipe)


def test_a_changed_package_is_refused_as_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    installed, texts = techniques.registry(), []
    source = Recipe.from_dict(VALUES).with_technique(Slower).technique_sources["slower"]
    for share in ("0.5", "0.25"):
        package = f"somebodys_tricks_{share[2:]}"
        (tmp_path / f"{package}.py").write_text(source.replace("SHARE = 0.25", f"SHARE = {share}"))
        brought = {"slower": importlib.import_module(package).Slower}
        monkeypatch.setattr(techniques, "registry", lambda known=installed | brought: known)
        recipe = Recipe.from_dict(VALUES, {"study.vary": ["slower"]})
        texts.append(plan_file(recipe, planned(recipe), prepare(recipe), Path("s"), "cpu", 1, False))
        del sys.modules[package]
    write_recipe(recipe, tmp_path / "tiny")
    (tmp_path / "tiny" / "plan.json").write_text(texts[0])
    found = changes(tmp_path / "tiny", recipe, texts[1])
    assert [version.what for version in found.versions] == ["source {} of slower"]
    with pytest.raises(AblateError, match=r"was begun with source \w{8} of slower, this is source \w{8} of"):
        refuse(found, tmp_path, fresh=False)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that a script has run with a technique of its own."""
    folder = tmp_path_factory.mktemp("scripted")
    (folder / "script.py").write_text(
        SCRIPT.replace("{values}", repr(VALUES | {"phases": VALUES["phases"][:1]})).replace(
            "{out!r}", repr(str(folder / "runs"))
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(folder / "cache"))
        patch.setenv("ABLATE_STORE", str(folder / "store"))
        done = subprocess.run([sys.executable, folder / "script.py"], capture_output=True, text=True)
    assert "trained ['ok', 'ok']" in done.stdout, done.stdout + done.stderr
    return folder


@pytest.fixture
def study(scripted: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("ABLATE_CACHE", str(scripted / "cache"))
    monkeypatch.setenv("ABLATE_STORE", str(scripted / "store"))
    return Study.open(scripted / "runs" / "tiny")


class TestAStudyOfAScript:
    """This process has never seen the script."""

    def test_its_folder_has_the_source(self, study: Study):
        values = YAML(typ="safe").load((study.folder / "recipe.yaml").read_text())
        assert values["technique_files"] == ["techniques/slower.py"]
        text = (study.folder / "techniques" / "slower.py").read_text()
        assert "SHARE = 0.25\n" in text
        assert "__main__" not in text

    @pytest.mark.parametrize("command", ["plan", "run"])
    def test_nothing_is_left_to_do(self, study: Study, command: str):
        recipe = str(study.folder / "recipe.yaml")
        asked = ["--threads", "1", "--device", "cpu", "--out", str(study.folder.parent)]
        ended = CliRunner().invoke(main, [command, recipe, *asked, *["--json"] * (command == "plan")])
        assert ended.exit_code == 0, ended.output
        if command == "plan":
            assert json.loads(ended.output)["epochs_left"] == 0
        else:
            assert "everything is finished; nothing to do" in ended.output

    def test_its_learner(self, study: Study):
        torch.set_num_threads(1)
        learn = study.learner("baseline+slower")
        probabilities, targets = learn.get_preds()
        wanted = study.trials.set_index("variant").accuracy["baseline+slower"]
        assert float((probabilities.argmax(1) == targets).float().mean()) == pytest.approx(wanted, abs=1e-6)

    def test_report_predict_and_export(self, study: Study, photos: Path, tmp_path: Path):
        assert CliRunner().invoke(main, ["report", str(study.folder)]).exit_code == 0
        found = study.predict(photos / "cat", "baseline+slower", device="cpu")
        assert len(found) == 8
        out = str(tmp_path / "exported")
        exported = CliRunner().invoke(
            main, ["export", str(study.folder), "--variant", "baseline+slower", "--out", out]
        )
        assert exported.exit_code == 0, exported.output
        assert (tmp_path / "exported" / "techniques" / "slower.py").is_file()
        again = CliRunner().invoke(
            main,
            [
                "predict",
                out,
                "--images",
                str(photos / "cat"),
                "--out",
                str(tmp_path / "p.csv"),
                "--device",
                "cpu",
            ],
        )
        assert again.exit_code == 0, again.output
        probabilities = [name for name in found.columns if name.startswith("p_")]
        written = pd.read_csv(tmp_path / "p.csv")[probabilities]
        pd.testing.assert_frame_equal(written, found[probabilities], check_dtype=False, atol=1e-6)
