"""`ablate completion`, and what shells are offered: recipes, studies and techniques, with no heavy import."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from ablate.errors import AblateError

SHELLS = ("bash", "zsh", "fish")
_PLAIN = re.compile(r"[\w@%+./-]+")
"""Words that mean themselves in every shell, and that no shell breaks in two."""
_START = {
    "bash": "[ -f {script} ] && source {script}",
    "zsh": "(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; "
    "[ -f {script} ] && source {script}",
}
"""The line of a shell's start-up file that makes it read the script."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Put it where the shell finds it, instead of printing it.")
def completion(shell: str, install: bool) -> None:
    """Print the script that completes commands, options, recipes and studies in a shell, or install it.

    Example: ablate completion bash --install

    To keep the script elsewhere: ablate completion zsh > completion.zsh
    """
    script = source(shell)
    if not install:
        click.echo(script)
        return
    changed = install_script(shell, script)
    for path in changed:
        click.echo(f"wrote {path}")
    if changed:
        click.echo(f"Open a new {shell} to complete `ablate ` with the tab key.")
    else:
        click.echo(f"Completion for {shell} is already installed; nothing to do.")


def source(shell: str) -> str:
    """The script that one of `SHELLS` reads; it asks `ablate` itself at every tab."""
    from ablate.cli import main

    made = get_completion_class(shell)
    assert made is not None, f"click has lost {shell}"
    return made(main, {}, "ablate", "_ABLATE_COMPLETE").source()


def install_script(shell: str, script: str) -> list[Path]:
    """Write a script into the user's folders, and the line that reads it into the shell's start-up file.

    Returns:
        The files that have changed; none where all was there.

    Raises:
        AblateError: A file cannot be written.
    """
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path = config / "fish/completions/ablate.fish" if shell == "fish" else data / f"ablate/completion.{shell}"
    starts = {"bash": home / ".bashrc", "zsh": Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"}
    try:
        changed = _write(path, script + "\n")
        if shell in starts:  # fish reads all scripts of its folder
            line = _START[shell].format(script=shlex.quote(str(path)))
            changed += _add_line(starts[shell], line)
    except OSError as error:
        raise AblateError(
            f"{error.filename}: cannot be written ({error.strerror}); `ablate completion {shell}` prints the "
            "script, to be kept where you like."
        ) from None
    return changed


def _write(path: Path, text: str) -> list[Path]:
    """Give a file a text; the file, if that changed it."""
    if path.is_file() and path.read_text() == text:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [path]


def _add_line(path: Path, line: str) -> list[Path]:
    """Put a line at the end of a file that does not have it; the file, if that changed it."""
    text = path.read_text(errors="replace") if path.is_file() else ""
    if line in text.splitlines():
        return []
    with path.open("a") as file:  # not replaced: it may be a link into a folder of its owner's
        file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
    return [path]


def complete_recipe(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The recipes that begin so: in the folder that is typed, and in those right below it."""
    typed = Path(os.path.dirname(incomplete))
    paths = (
        path for below in ("", "*/") for end in ("yaml", "yml") for path in typed.glob(f"{below}*.{end}")
    )
    return _items(paths, incomplete, "file")


def complete_study(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The studies that begin so: in the folder of studies, and in the folder that is typed."""
    folders = (os.environ.get("ABLATE_OUT") or "runs", os.path.dirname(incomplete))
    plans = (plan for folder in folders for plan in Path(folder).glob("*/plan.json"))
    return _items((plan.parent for plan in plans), incomplete, "dir")


def complete_technique(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """The techniques that begin so."""
    from ablate.techniques import registry

    return [CompletionItem(name) for name in registry() if name.startswith(incomplete)]


def _items(paths: Iterable[Path], incomplete: str, otherwise: str) -> list[CompletionItem[str]]:
    """The paths that begin as typed; where there are none, or one needs quotes, the shell has to complete.

    `otherwise` is what it then offers: `file` or `dir`.
    """
    typed = incomplete.removeprefix("./")
    found = sorted({str(path) for path in paths if str(path).startswith(typed)})
    if not found or not all(_PLAIN.fullmatch(path) for path in found):
        return [CompletionItem(incomplete, type=otherwise)]
    prefix = incomplete.removesuffix(typed)
    return [CompletionItem(prefix + path) for path in found]
