"""Every command's `--help` has an example, and every example is run as it stands there."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ablate.cli import main

EXAMPLE = re.compile(r"^.*?: (ablate .+)$", re.MULTILINE)
RECIPE = {  # small enough for tests, and one more seed settles its verdict
    "name": "digits",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 1}],
    "study": {"vary": ["tta"], "seeds": 2, "smallest_effect": 0.5},
}


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by what is typed."""
    yield name, command
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        yield from commands(each, f"{name} {each.name}")


COMMANDS = dict(commands(main, "ablate"))
EXAMPLES = {name: EXAMPLE.findall(command.help or "") for name, command in COMMANDS.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_of_the_command(name: str):
    done = CliRunner().invoke(main, [*name.split()[1:], "--help"])
    assert done.exit_code == 0, done.output
    assert f"Example: {name}" in done.output
    assert EXAMPLES[name], "an example stands alone in a line, after words and a colon"
    assert all(example.startswith(name) for example in EXAMPLES[name])
    shown = " ".join(done.output.split())
    assert all(example in shown for example in EXAMPLES[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that an example names, and its study run."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "digits.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
    rng = np.random.default_rng(0)
    for name in ("photos/cat/1.png", "photos/cat/2.png", "photos/dog/1.png", "test/a.png", "test/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name)
    with (folder / "sample_submission.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "label"], ["a.png", 0], ["b.png", 0]])
    with pytest.MonkeyPatch.context() as patch:
        live_in(folder, patch, {})
        done = ablate("ablate run recipes/digits.yaml")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[dict[str, str]]:
    """The variables that lead to a W&B service on this machine, which has been told of the study."""
    import wandb

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "tracking")
        from loopback import Loopback
        from wandb_backend import KEY

        loopback = Loopback()
        variables = {"WANDB_BASE_URL": loopback.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
        live_in(folder, patch, variables)
        done = ablate("ablate sync runs/digits")
    assert done.exit_code == 0, done.output
    yield variables
    wandb.teardown()
    loopback.stop()


def live_in(folder: Path, patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Work in a folder that is also home, with further variables."""
    patch.chdir(folder)
    patch.setenv("HOME", str(folder))
    patch.setenv("ABLATE_CACHE", str(folder / ".cache"))
    for name in ("ABLATE_OUT", "ABLATE_STORE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)


def ablate(line: str) -> Result:
    """Run a line as a shell does, as far as examples need one: words, and `> FILE`."""
    words, _, file = line.partition(" > ")
    done = CliRunner().invoke(main, shlex.split(words)[1:])
    if file:
        Path(file).write_text(done.stdout)
    return done


def ablate_apart(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line in a process of its own: Ray ends the process that it is in when its node dies."""
    words = [sys.executable, "-m", "ablate.cli", *shlex.split(line)[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("example", [each for examples in EXAMPLES.values() for each in examples])
def test_the_example_runs(
    example: str, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    asks_wandb = re.search(r"--wandb\b(?! off)|^ablate sync", example)
    live_in(folder, monkeypatch, request.getfixturevalue("service") if asks_wandb else {})
    if "--executor ray" in example:
        apart = ablate_apart(example)
        code, output = apart.returncode, apart.stdout + apart.stderr
    else:
        done = ablate(example)
        code, output = done.exit_code, done.output
    assert code == 0, output
    assert "Traceback" not in output


def test_a_redirected_schema_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    live_in(folder, monkeypatch, {})
    (example,) = EXAMPLES["ablate schema"]
    ablate(example)
    assert json.loads((folder / "recipe.schema.json").read_text())["title"]
