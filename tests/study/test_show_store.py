"""ablate.study.show_store and ablate.cli_store: what `ablate store` prints, as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from tiny_stores import begin, computed_elsewhere, finish, flip, make_store, study

from ablate.cli import main
from ablate.cli_store import store as group
from ablate.study import show_store
from ablate.study.show_store import print_checked
from ablate.study.store import Store
from ablate.study.upkeep import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The default store. a and b are finished, c has three epochs; one uses a and c, two uses a."""
    store = make_store(tmp_path / ".store")
    finish(store, "a" * 32, text="x" * 2000, days=3)
    finish(store, "b" * 32)
    begin(store, "c" * 32, epochs=3)
    study(store, tmp_path / "runs" / "one", "a" * 32, "c" * 32)
    study(store, tmp_path / "runs" / "two", "a" * 32)
    return store


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of tests have long names, which narrow tables would cut."""
    monkeypatch.setenv("COLUMNS", "200")


def ablate(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["store", *(str(word) for word in words)])


def lines(result: Result) -> list[str]:
    """The lines that were printed, with single spaces."""
    assert not result.stderr, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip(" ─")]


@pytest.mark.parametrize("command", sorted(group.commands))
def test_help_has_an_example(command: str) -> None:
    done = ablate(command, "--help")
    assert done.exit_code == 0
    assert f"Example: ablate store {command}" in done.output


@pytest.mark.parametrize("command", [["list"], ["size"], ["verify"], ["prune", "--unreferenced"]])
def test_a_store_that_is_not_there(command: list[str], tmp_path: Path) -> None:
    done = ablate(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / '.store'}: is no stage store" in done.stderr
    assert f"{tmp_path / 'other'}: is no" in ablate(*command, "--store", tmp_path / "other").stderr


class TestList:
    def test_the_table(self, store: Store) -> None:
        text = lines(ablate("list"))
        assert text[0] == "stage what kind status size age used by"
        assert text[1].startswith("bbbbbbbbbb label of bbbb fit ok ")
        assert text[2] == "cccccccccc planned cccc fit unfinished, epoch 3 of 8 7 bytes 0 s one"
        assert text[3].startswith("aaaaaaaaaa label of aaaa fit ok 2.")
        assert text[3].endswith("kB 3 days one, two")

    def test_what_is_running(self, store: Store) -> None:
        with computed_elsewhere(store, "c" * 32):
            assert "running, epoch 3 of 8" in ablate("list").stdout

    def test_json(self, store: Store, tmp_path: Path) -> None:
        first, second, third = json.loads(ablate("list", "--json").stdout)
        assert (first["key"], first["label"], first["status"]) == ("a" * 32, "label of aaaa", "ok")
        assert first["studies"] == [str(tmp_path / "runs" / "one"), str(tmp_path / "runs" / "two")]
        assert (second["kind"], second["studies"]) == ("fit", [])
        assert (third["epoch"], third["epochs"], third["running"]) == (3, 8, False)

    def test_an_empty_store(self, tmp_path: Path) -> None:
        make_store(tmp_path / "empty")
        assert lines(ablate("list", "--store", tmp_path / "empty")) == ["The store is empty."]
        assert json.loads(ablate("list", "--json", "--store", tmp_path / "empty").stdout) == []

    def test_a_plan_that_cannot_be_read_is_told(self, store: Store, tmp_path: Path) -> None:
        plan = tmp_path / "runs" / "two" / "plan.json"
        plan.write_text("")
        assert lines(ablate("list"))[-1] == f"{plan}: cannot be read; what its study uses looks unused here."

    def test_it_answers_at_once(self, store: Store) -> None:
        code = (
            "import sys; from click.testing import CliRunner; from ablate.cli import main\n"
            f"words = ['store', 'list', '--store', {str(store.root)!r}]\n"
            "assert CliRunner().invoke(main, words).exit_code == 0\n"
            "print(sorted({'torch', 'pandas', 'scipy.stats', 'fastai', 'numpy.testing'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_size(store: Store, tmp_path: Path) -> None:
    flip(store.folder("b" * 32) / "weights")
    store.set_aside("b" * 32)
    rows = lines(ablate("size"))
    assert rows[0] == "stages number size"
    assert [row.split()[:-2] for row in rows[1:5]] == [
        ["finished", "1"],
        ["unfinished", "1"],
        ["set", "aside", "1"],
        ["all", "3"],
    ]
    one, two = (str(tmp_path / "runs" / name) for name in ("one", "two"))
    kb = re.compile(r"2\.\d kB")
    assert [kb.sub("2 kB", row) for row in rows[6:8]] == [
        f"{one} 1 7 bytes 1 2 kB",
        f"{two} 0 0 bytes 1 2 kB",
    ]
    assert rows[-1] == "used by none 0 0 bytes"


class TestVerify:
    def test_all_is_sound(self, store: Store) -> None:
        done = ablate("verify")
        assert (done.exit_code, lines(done)) == (0, ["2 stages read, all as written."])

    @pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 10)], ids=["flip", "truncate"])
    def test_damage(self, store: Store, damage) -> None:
        damage(store.folder("a" * 32) / "weights")
        done = ablate("verify")
        assert done.exit_code == 1
        assert lines(done) == [
            f"{store.folder('a' * 32)} (label of aaaa): damaged: weights; it is set aside, and "
            "`ablate run` computes it again.",
            "1 of 2 stages damaged.",
        ]
        assert lines(ablate("verify")) == ["1 stage read, all as written."]

    def test_a_store_that_cannot_be_written(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        flip(store.folder("a" * 32) / "weights")
        monkeypatch.setattr(Path, "rename", refuse)
        done = ablate("verify")
        assert done.exit_code == 1
        assert "the store cannot be written, so it stays where it is" in done.stdout

    @pytest.mark.parametrize("patience", [0.0, 60.0])
    def test_a_bar_appears_when_it_takes_long(
        self, store: Store, patience: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(show_store, "_PATIENCE", patience)
        with (tmp_path / "terminal").open("w") as file:
            console = Console(file=file, force_terminal=True, width=100)
            assert print_checked(verify(store), 2, console)
        assert ("reading" in (tmp_path / "terminal").read_text()) is (patience == 0)


class TestPrune:
    def test_dry_run(self, store: Store) -> None:
        text = lines(ablate("prune", "--study", "one", "--dry-run"))
        assert text[0] == "cccccccccc planned cccc unfinished, epoch 3 of 8 7 bytes"
        assert "runs/one: would no longer count as a user of this store." in text[1]
        assert text[2].startswith("1 stage would be removed, 7 bytes; ")
        assert text[2].endswith("are free now.")

    def test_by_everything(self, store: Store) -> None:
        flip(store.folder("b" * 32) / "weights")
        ablate("verify")
        text = lines(ablate("prune", "--unreferenced"))
        assert text[0].startswith("bbbbbbbbbb set aside ")
        assert text[1].startswith("1 stage removed, ")
        text = lines(ablate("prune", "--older-than", "2d"))
        assert text[0].startswith("aaaaaaaaaa")
        assert lines(ablate("prune", "--older-than", "2d"))[0].startswith("0 stages removed, 0 bytes;")

    def test_what_is_running_stays(self, store: Store) -> None:
        with computed_elsewhere(store, "c" * 32):
            text = lines(ablate("prune", "--older-than", "0h"))
        assert "2 stages stay: a run is using them." in text
        assert store.folder("a" * 32).is_dir()

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ([], "needs --study, --older-than or --unreferenced"),
            (["--older-than", "soon"], "--older-than soon: is no age"),
            (["--study", "three"], "--study three: no such study uses this store"),
            (["--study", "one", "--unreferenced"], "exclude each other"),
        ],
    )
    def test_mistakes(self, store: Store, words: list[str], sentence: str) -> None:
        done = ablate("prune", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
