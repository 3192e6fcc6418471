"""`ablate store`: what lies in the stage store, whether it is sound, and how to make it smaller."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ablate.cli_completion import complete_study

_STORE = click.option(
    "--store",
    "path",
    type=click.Path(),
    help="The stage store, a folder or a URL. [default: $ABLATE_STORE, else .stages in $ABLATE_OUT or runs]",
)


@click.group()
def store() -> None:
    """List, measure, verify and prune the stages that are stored.

    Example: ablate store list
    """


@store.command("list")
@_STORE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(path: str | None, as_json: bool) -> None:
    """List the stages, finished and unfinished, and the studies that use them.

    Example: ablate store list --json
    """
    from ablate.study.show_store import print_stages, rows
    from ablate.study.stored import contents, open_store

    found = contents(open_store(path))
    if as_json:
        click.echo(json.dumps(rows(found), indent=1))
    else:
        print_stages(found)


@store.command()
@_STORE
def size(path: str | None) -> None:
    """Tell how much room the stages take, in all and by study.

    Example: ablate store size
    """
    from ablate.study.show_store import print_size
    from ablate.study.stored import contents, open_store

    print_size(contents(open_store(path)))


@store.command()
@_STORE
def verify(path: str | None) -> None:
    """Read every file of every finished stage; what is damaged is set aside.

    Exit code 1 if anything was damaged; `ablate run` computes it again.

    Example: ablate store verify
    """
    from ablate.study.show_store import print_checked
    from ablate.study.stored import open_store
    from ablate.study.upkeep import verify

    opened = open_store(path)
    if not print_checked(verify(opened), len(opened.keys())):
        sys.exit(1)


@store.command()
@_STORE
@click.option(
    "--study",
    metavar="FOLDER_OR_NAME",
    shell_complete=complete_study,
    help="What no other study uses, and the study's claim.",
)
@click.option("--older-than", metavar="AGE", help="What is older than 12h, 30d or 2w.")
@click.option("--unreferenced", is_flag=True, help="What no study uses, and what was set aside as damaged.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
def prune(path: str | None, older_than: str | None, dry_run: bool, **criteria: Any) -> None:
    """Remove the stages for which all that is asked for holds; never what a run is using.

    Example: ablate store prune --unreferenced --older-than 30d --dry-run
    """
    from ablate.study.show_store import print_pruning
    from ablate.study.stored import open_store
    from ablate.study.upkeep import Criteria, parse_age, prune

    age = None if older_than is None else parse_age(older_than)
    chosen, opened = Criteria(older_than=age, **criteria), open_store(path)
    print_pruning(prune(opened, chosen, dry_run=dry_run), opened.disk, dry_run)
