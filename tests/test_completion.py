"""`ablate completion`: a real bash completes, zsh and fish are told what they ask for; installing is safe."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ablate.cli import main

PROMPT, TOLD = "ready> ", "line: "


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, which is also where the shell is: two recipes, one of them with a space, and a study."""
    home = tmp_path / "home"
    for name in ("recipes/digits.yaml", "recipes/deep/er.yaml", "my recipes/own.yaml", "photos/1.jpg"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for study in ("runs/digits", "elsewhere/other", "runs/.stages"):
        (home / study).mkdir(parents=True)
    for study in ("runs/digits", "elsewhere/other"):
        (home / study / "plan.json").touch()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR", "ABLATE_OUT"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The folder of a command `ablate`, as pip installs it."""
    path = tmp_path / "bin" / "ablate"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nfrom ablate.cli import main\nmain(prog_name='ablate')\n")
    path.chmod(0o755)
    return path.parent


def ablate(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def offered(shell: str, words: str) -> list[str]:
    """What a shell is answered to a line whose last word is being typed."""
    parts = words.split(" ")
    number = parts[-1] if shell == "fish" else str(len(parts) - 1)
    asked = {"_ABLATE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": number}
    done = CliRunner().invoke(main, [], env=asked, prog_name="ablate")
    assert done.exit_code == 0, done.output
    return done.output.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_bash_that_was_installed_for_completes(home: Path, command: Path):
    (home / ".bashrc").write_text(f"PS1='{PROMPT}'\n")
    assert ablate("completion", "bash", "--install").exit_code == 0
    assert typed(command, "ablate show ru\t") == "ablate show runs/digits"
    assert typed(command, "ablate run rec\t") == "ablate run recipes/digits.yaml"
    assert typed(command, "ablate store ver\t --st\t") == "ablate store verify --store"
    assert typed(command, "ablate bench recipes/digits.yaml --on label_\t") == (
        "ablate bench recipes/digits.yaml --on label_smoothing"
    )
    assert typed(command, "ablate show other/../els\t") == "ablate show other/../els"
    assert typed(command, "ablate run my\\ rec\town.ya\t") == "ablate run my recipes/own.yaml"


def typed(command: Path, keys: str) -> str:
    """The line that an interactive bash has after keys were typed."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PATH": f"{command}:{os.environ['PATH']}", "TERM": "dumb"}
    shell = subprocess.Popen(
        ["bash", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        read_until(ours, PROMPT)
        os.write(ours, f"{keys}\x01echo {TOLD}\n".encode())  # to the line's beginning, to print the line
        return read_until(ours, "\n" + TOLD, "\n").strip()
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def read_until(terminal: int, *marks: str) -> str:
    """What a terminal shows between two marks, or up to one."""
    text, end = "", time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 4096).decode().replace("\r", "")
        before, found, after = text.partition(marks[0])
        if found and len(marks) == 1:
            return before
        if found and marks[1] in after:
            return after.partition(marks[1])[0]
    pytest.fail(f"the terminal never showed {marks}: {text!r}")


@pytest.mark.parametrize(("shell", "kind"), [("bash", "plain,"), ("fish", "plain,")])
def test_what_is_offered(shell: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    assert offered(shell, "ablate plan recipes/") == [
        f"{kind}recipes/deep/er.yaml",
        f"{kind}recipes/digits.yaml",
    ]
    assert offered(shell, "ablate plan ./recipes/di") == [f"{kind}./recipes/digits.yaml"]
    assert offered(shell, "ablate check ph") == [f"file,{'ph'}"]
    assert offered(shell, "ablate report el") == ["dir,el"]
    assert offered(shell, "ablate report elsewhere/") == [f"{kind}elsewhere/other"]
    assert offered(shell, "ablate export ") == [f"{kind}runs/digits"]
    assert offered(shell, "ablate store prune --study ") == [f"{kind}runs/digits"]
    monkeypatch.setenv("ABLATE_OUT", "elsewhere")
    assert offered(shell, "ablate predict ") == [f"{kind}elsewhere/other"]


def test_what_zsh_is_offered():
    assert offered("zsh", "ablate show r") == ["plain", "runs/digits", "_"]
    assert offered("zsh", "ablate completion ")[1::3] == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_offered(shell: str):
    commands = {name for name, each in main.commands.items() if not each.hidden}
    assert commands <= {word.removeprefix("plain,") for word in offered(shell, "ablate ")}


def test_offering_imports_nothing_heavy():
    code = (
        "import sys\nfrom ablate.cli import main\ntry: main(prog_name='ablate')\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'fastai', 'numpy', 'pandas', 'pydantic', 'rich', 'wandb', 'ray'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    asked = {"_ABLATE_COMPLETE": "bash_complete", "COMP_WORDS": "ablate show ru", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plain,runs/digits", "[]"]


@pytest.mark.parametrize(
    ("shell", "script", "start"),
    [
        ("bash", ".local/share/ablate/completion.bash", ".bashrc"),
        ("zsh", ".local/share/ablate/completion.zsh", ".zshrc"),
        ("fish", ".config/fish/completions/ablate.fish", None),
    ],
)
def test_installing_twice_changes_nothing(shell: str, script: str, start: str | None, home: Path):
    if start is not None:
        (home / start).write_text("alias ll='ls -l'")  # without a line's end
    first = ablate("completion", shell, "--install")
    assert f"wrote {home / script}" in first.output
    assert f"Open a new {shell}" in first.output
    assert (home / script).read_text() == ablate("completion", shell).output
    if start is not None:
        lines = (home / start).read_text().splitlines()
        assert lines[0] == "alias ll='ls -l'"
        assert f"source {home / script}" in lines[1]
        assert len(lines) == 2
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    second = ablate("completion", shell, "--install")
    assert "already installed; nothing to do" in second.output
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_start_file_that_is_a_link_stays_one(home: Path):
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "bashrc").write_text("# mine\n")
    (home / ".bashrc").symlink_to(home / "dotfiles" / "bashrc")
    assert ablate("completion", "bash", "--install").exit_code == 0
    assert (home / ".bashrc").is_symlink()
    assert "completion.bash" in (home / "dotfiles" / "bashrc").read_text()


def test_a_home_that_cannot_be_written_is_one_sentence(home: Path):
    (home / ".local").touch()  # where a folder has to be
    done = ablate("completion", "bash", "--install")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr
    assert "`ablate completion bash` prints the script" in done.stderr


def test_an_unknown_shell_names_the_known():
    done = ablate("completion", "tcsh")
    assert done.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
