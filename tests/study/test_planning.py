"""ablate.study.planning: `ablate plan`, without torch and without reading an image."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from ablate.cli import main
from ablate.data import inspect
from ablate.recipe.recipe import Recipe
from ablate.study import planning
from ablate.study.planning import plan_study
from ablate.study.study import Study

DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"
HEAVY = {"torch", "pandas", "fastai", "timm", "wandb", "matplotlib", "sklearn", "torchvision"}


def modules(*command: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['ablate', *{list(command)!r}]\n"
        "from ablate.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "command",
    [("--help",), ("plan", str(DIGITS)), ("plan", str(DIGITS), "--json"), ("techniques",), ("schema",)],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(command: tuple[str, ...]) -> None:
    loaded = modules(*command)
    assert "ablate.cli" in loaded
    assert not {name for name in loaded if name.split(".")[0] in HEAVY or name.startswith("scipy.stats")}


def test_help_imports_next_to_nothing() -> None:
    assert not {
        name for name in modules("--help") if name.split(".")[0] in ("numpy", "pydantic", "ruamel", "PIL")
    }


def test_json() -> None:
    result = CliRunner().invoke(main, ["plan", str(DIGITS), "--json", "--device", "cpu"])
    numbers = json.loads(result.stdout)
    recipe = Recipe.load(DIGITS)
    assert result.exit_code == 0
    assert numbers["trials"] == numbers["variants"] * numbers["seeds"]
    assert numbers["seeds"] == len(recipe.study.seed_list)
    assert numbers["requested_epochs"] > numbers["unique_epochs"] > 0
    assert numbers["merge_rate"] == pytest.approx(
        numbers["requested_epochs"] / numbers["unique_epochs"], abs=1e-3
    )
    assert 0 < numbers["detectable_effect"] < 0.2
    assert numbers["train_images"] + numbers["valid_images"] == 1797
    assert numbers["stages"] > numbers["trials"]


def test_what_a_finished_study_has_is_stored(finished: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the threads that it was begun with, although this machine may have others."""
    monkeypatch.delenv("ABLATE_STORE")
    recipe = Recipe.load(finished.folder / "recipe.yaml")
    out = finished.folder.parent
    assert plan_study(recipe, out)[0]["stored_stages"] == 0
    monkeypatch.setenv("ABLATE_STORE", str(out.parent / "store"))
    monkeypatch.setattr(planning, "available_cores", lambda: 64)
    numbers, plan = plan_study(recipe, out)
    assert (numbers["stored_stages"], numbers["epochs_left"]) == (len(plan.stages), 0)
    assert plan_study(recipe, out, threads=64)[0]["stored_stages"] == 0


def test_the_store_is_beside_the_studies(copy_of: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABLATE_STORE")
    out = copy_of.folder.parent
    (out.parent / "store").rename(out / ".stages")
    recipe = str(copy_of.folder / "recipe.yaml")
    done = CliRunner().invoke(main, ["plan", recipe, "--json", "--out", str(out)])
    assert json.loads(done.stdout)["epochs_left"] == 0
    shown = CliRunner().invoke(main, ["plan", recipe, "--out", str(out), "--set", "study.seeds=3"])
    assert "for the 5 epochs left, from measured stages" in " ".join(shown.stdout.split())


def test_set_and_quick() -> None:
    run = CliRunner().invoke
    one = json.loads(run(main, ["plan", str(DIGITS), "--json", "--set", "study.seeds=1"]).stdout)
    assert (one["seeds"], one["detectable_effect"]) == (1, None)
    quick = json.loads(run(main, ["plan", str(DIGITS), "--json", "--quick"]).stdout)
    assert quick["seeds"] == 2
    assert quick["train_images"] <= 64


def test_a_tpu_is_planned_for_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    _, here = plan_study(Recipe.load(DIGITS), device="cpu")
    numbers, there = plan_study(Recipe.load(DIGITS), device="xla")
    assert numbers["trials"] == len(here.trials)
    assert not {*here.stages} & {*there.stages}
    assert all(one.settings["device"] == {"class": "xla"} for one in there.stages.values())


def test_the_digits_need_no_look() -> None:
    _, plan = plan_study(Recipe.load(DIGITS), device="cpu", threads=1)
    assert plan.data_known


def photo_recipe(photos: Path) -> Recipe:
    values = {
        "name": "photos",
        "size": 32,
        "data": {"root": str(photos), "table": "table.csv", "split": {"column": "is_val"}},
        "phases": [{"name": "one", "epochs": 1}],
        "study": {"vary": ["mixup"], "seeds": 2},
    }
    return Recipe.from_dict(values)


def test_no_image_is_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image is looked at")

    monkeypatch.setattr(inspect, "look", refuse)
    numbers, plan = plan_study(photo_recipe(photos), device="cpu", threads=1)
    assert not plan.data_known
    assert (numbers["trials"], numbers["train_images"], numbers["valid_images"]) == (4, 18, 6)


def test_what_has_been_looked_at_is_known(photos: Path) -> None:
    from ablate.study.prepare import prepare

    recipe = photo_recipe(photos)
    prepare(recipe)
    _, plan = plan_study(recipe, device="cpu", threads=1)
    assert plan.data_known
    image = photos / "cat" / "0.jpg"
    image.write_bytes((photos / "cat" / "2.jpg").read_bytes())
    assert not plan_study(recipe, device="cpu", threads=1)[1].data_known


def write_tar(path: Path, begin: int) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(begin, begin + 8):
            for suffix, content in (("jpg", b"not looked at"), ("cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def test_reading_shards_through_is_told_beside_the_plan(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", 8 * number)
    recipe = tmp_path / "recipe.yaml"
    data = {"root": str(tmp_path), "shards": "*.tar"}
    recipe.write_text(json.dumps({"name": "s", "data": data, "phases": [{"name": "one", "epochs": 1}]}))
    command = ["plan", str(recipe), "--json", "--set", "study.seeds=1"]
    for told in ("looked at 3 of 3 new shards\n", ""):
        done = CliRunner().invoke(main, command)
        assert json.loads(done.stdout)["train_images"] == 19
        assert done.stderr == told


def test_folds_that_are_chosen(photos: Path) -> None:
    recipe = photo_recipe(photos)
    split = {"folds": 3, "group": "patient"}
    every, plan = plan_study(recipe.override({"data.split": split}), device="cpu", threads=1)
    assert (every["folds"], every["trials"], every["valid_images"]) == (3, 12, 24)
    assert {trial.fold for trial in plan.trials} == {0, 1, 2}
    changes = {"data.split": split, "study.folds": [2]}
    _, plan = plan_study(recipe.override(changes), device="cpu", threads=1)
    assert {trial.fold for trial in plan.trials} == {2}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["data.root=nix"], "data.root: there is no folder"),
        (["data.root=.", "data.table=nix.csv"], "data.table: there is no file"),
        (["model.weights=nix.safetensors"], "model.weights: there is no file"),
    ],
)
def test_what_is_missing_is_one_sentence(
    changes: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [part for change in changes for part in ("--set", change)]
    if "data.root=nix" in changes:
        arguments += ["--set", "data.source=folders"]
    elif "data.root=." in changes:
        arguments += ["--set", "data.source=table"]
    result = CliRunner().invoke(main, ["plan", str(DIGITS), *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_a_missing_column_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: a\nsize: 32\nphases: [{{name: p, epochs: 1}}]\n"
        f"data: {{root: {photos}, table: table.csv, label: {{column: kind}}}}\n"
    )
    result = CliRunner().invoke(main, ["plan", str(recipe)])
    assert result.exit_code == 2
    assert "has no column 'kind'; it has image, label, is_val, patient." in result.stderr
