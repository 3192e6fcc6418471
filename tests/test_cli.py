"""The commands as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from real_runs import needs_mounts

from ablate import Study
from ablate.cli import main

RECIPES = Path(__file__).parents[1] / "recipes"
RUN = {
    "name": "cli",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 1}],
    "study": {"vary": ["tta"], "seeds": 2},
}


def ablate(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(RUN))  # JSON is YAML
    return path


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_has_an_example(command: str):
    done = ablate(command, "--help")
    assert done.exit_code == 0
    assert f"Example: ablate {command}" in done.output


def test_run_then_show_then_report(recipe: Path, tmp_path: Path):
    ran = ablate("run", recipe, "--out", tmp_path / "out", "--threads", 1)
    assert ran.exit_code == 0, ran.output
    assert "tta" in ran.output
    assert "report:" in ran.output
    again = ablate("run", recipe, "--out", tmp_path / "out", "--threads", 1)
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    shown = ablate("show", tmp_path / "out" / "cli")
    assert shown.exit_code == 0
    assert "verdict" in shown.output
    reported = ablate("report", tmp_path / "out" / "cli")
    told = [Path(line) for line in reported.output.splitlines()]
    assert [path.name for path in told] == ["report.html", "report.md"]
    assert all(path.is_file() for path in told)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that study and its store, `cli` and `.stages`, run. Only to be read."""
    root = tmp_path_factory.mktemp("finished")
    (root / "recipe.yaml").write_text(json.dumps(RUN))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(root / "cache"))
        patch.setenv("ABLATE_STORE", str(root / "out" / ".stages"))
        assert ablate("run", root / "recipe.yaml", "--out", root / "out", "--threads", 1).exit_code == 0
    return root / "out"


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@needs_mounts
@pytest.mark.parametrize("more", [[], ["--set", "study.seeds=3"]])
def test_run_on_a_read_only_disk_is_one_sentence(finished: Path, recipe: Path, more: list[str]):
    done = read_only(finished, "-m", "ablate.cli", "run", recipe, "--out", finished, *more)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{finished}/cli: cannot be written" in done.stderr
    assert "set --out or ABLATE_OUT to a folder that can" in done.stderr


@needs_mounts
def test_a_read_only_store_is_one_sentence(finished: Path, recipe: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ABLATE_STORE", str(finished / ".stages"))
    done = read_only(finished, "-m", "ablate.cli", "run", recipe, "--out", tmp_path / "other")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "the stage store cannot be written (Read-only file system); set ABLATE_STORE" in done.stderr


@needs_mounts
def test_a_study_on_a_read_only_disk_can_be_read(finished: Path):
    shown = read_only(finished, "-m", "ablate.cli", "show", finished / "cli")
    assert shown.returncode == 0, shown.stderr
    assert "verdict" in shown.stdout
    code = (
        "import sys; from ablate import Study; study = Study.open(sys.argv[1]);"
        "print(len(study.trials), len(study.predictions()), type(study.learner('baseline')).__name__)"
    )
    opened = read_only(finished, "-c", code, finished / "cli")
    assert opened.stdout.split() == ["4", str(4 * 359), "Learner"], opened.stderr


def read_only(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with a folder that only can be read."""
    command = ["unshare", "-rm", "sh", "-c", READ_ONLY, folder, sys.executable, *words]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder.parent
    )


@pytest.mark.parametrize("what", ["--out", "ABLATE_STORE"])
@pytest.mark.parametrize("place", ["/proc/ablate", "a file/below"])
def test_a_place_that_cannot_be_made_is_one_sentence(
    recipe: Path, tmp_path: Path, monkeypatch, what: str, place: str
):
    (tmp_path / "a file").write_text("")
    folder = tmp_path / place  # an absolute place stays what it is
    if what == "ABLATE_STORE":
        monkeypatch.setenv("ABLATE_STORE", str(folder))
    done = ablate("run", recipe, "--out", folder if what == "--out" else tmp_path / "out")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"{folder}" in done.stderr
    assert what in done.stderr


def test_a_store_of_a_newer_ablate_is_one_sentence(finished: Path, recipe: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    monkeypatch.setenv("ABLATE_STORE", str(out / ".stages"))
    seal = next(out.glob(".stages/[!.]*/DONE.json"))
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"schema": 99}))
    done = ablate("run", recipe, "--out", out, "--threads", 1)
    assert done.exit_code == 2
    assert done.stderr == (
        f"{seal.parent}: was written by a newer ablate; upgrade ablate, or set ABLATE_STORE to another "
        "folder.\n"
    )
    assert Study.open(out / "cli").trials["status"].tolist() == ["ok"] * 4


def test_a_failed_trial_exits_with_1(recipe: Path, tmp_path: Path):
    done = ablate("run", recipe, "--out", tmp_path, "--threads", 1, "--set", "phases.one.lr=1e25")
    assert done.exit_code == 1
    assert "did not finish well" in done.output


def test_set_reaches_the_recipe(recipe: Path):
    plain, more = (
        json.loads(ablate("plan", recipe, "--json", *extra).output)
        for extra in ((), ("--set", "study.seeds=4"))
    )
    assert more["trials"] == 2 * plain["trials"]


@pytest.mark.parametrize("command", ["run", "plan", "check"])
def test_a_users_mistake_is_one_sentence_and_exit_code_2(command: str, tmp_path: Path):
    done = ablate(command, tmp_path / "none.yaml")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "none.yaml: no such recipe" in done.stderr


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_folder_that_is_no_study(command: str, tmp_path: Path):
    done = ablate(command, tmp_path)
    assert done.exit_code == 2
    assert "is no study" in done.stderr


def test_check_finds_a_damaged_image(photos: Path, tmp_path: Path):
    path = tmp_path / "photos.yaml"
    path.write_text(json.dumps({**RUN, "data": {"root": str(photos)}}))
    assert ablate("check", path).exit_code == 0
    (photos / "cat" / "1.png").write_bytes(b"")
    done = ablate("check", path)
    assert done.exit_code == 2
    assert "cat/1.png" in done.output


def test_init_writes_a_recipe_that_plans(photos: Path, tmp_path: Path):
    out = tmp_path / "new.yaml"
    assert ablate("init", photos / "table.csv", "--out", out).exit_code == 0
    assert ablate("plan", out).exit_code == 0
    assert ablate("init", photos / "table.csv", "--out", out).exit_code == 2


def test_techniques_and_schema():
    listed = ablate("techniques").output
    for name in (
        "normalize",
        "augment",
        "random_resized_crop",
        "progressive_resizing",
        "mixup",
        "cutmix",
        "label_smoothing",
        "tta",
        "reseed",
    ):
        assert name in listed
    assert "arXiv 1710.09412" in listed
    assert json.loads(ablate("schema").output)["properties"]["techniques"]


def test_shipped_recipes_plan(cassava: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "mobilenetv2_100.safetensors").write_text("a plan only hashes it")
    monkeypatch.setenv("CASSAVA_DATA", str(cassava))
    monkeypatch.setenv("ABLATE_WEIGHTS", str(tmp_path))
    for name in ("digits", "cassava", "cassava-cpu"):
        done = ablate("plan", RECIPES / f"{name}.yaml", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["merge_rate"] > 1.5


def test_help_and_plan_import_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from ablate.cli import main\n"
        f"assert CliRunner().invoke(main, ['plan', {str(RECIPES / 'digits.yaml')!r}]).exit_code == 0\n"
        "heavy = {'torch', 'fastai', 'timm', 'pandas', 'scipy.stats', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
