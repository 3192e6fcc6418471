"""The commands. Thin: each reads its options, calls one function and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from ablate import __version__
from ablate.cli_bench import bench
from ablate.cli_completion import complete_recipe, complete_study, completion
from ablate.cli_doctor import doctor
from ablate.cli_predict import export, predict
from ablate.cli_store import store
from ablate.cli_sync import sync
from ablate.errors import AblateError, Terminated

_RECIPE = click.argument("recipe", type=click.Path(), shell_complete=complete_recipe)
_STUDY = click.argument("study", type=click.Path(), shell_complete=complete_study)
_SET = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a recipe field; repeat for more.",
)
_OUT = click.option(
    "--out", type=click.Path(), help="The folder that studies are in. [default: $ABLATE_OUT or runs]"
)

_SHARE = click.option(
    "--share/--no-share", default=True, help="Whether trials share stages. [default: share]"
)
_UNTIL_DECIDED = click.option(
    "--until-decided", is_flag=True, help="Add seeds where the verdict is open, instead of study.seeds."
)
_MAX_SEEDS = click.option(
    "--max-seeds", type=click.IntRange(1), help="The most seeds of --until-decided. [default: 12]"
)


class _Command(click.Group):
    """Tells the user's mistakes in one sentence on stderr, with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AblateError as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from here.", err=True)
            ctx.exit(130)
        except Terminated:
            click.echo("terminated; the same command goes on from the last finished epoch.", err=True)
            ctx.exit(143)


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Which of my training tricks really help, by how much, and how sure can I be?

    Example: ablate run recipes/digits.yaml
    """


@main.command()
@_RECIPE
@_SET
@_OUT
@click.option("--quick", is_flag=True, help="A smoke run on few images and epochs, under another name.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps, xla or auto.")
@click.option("--threads", type=click.IntRange(1), help="Torch threads. [default: all cores]")
@click.option("--workers", type=click.IntRange(0), help="Loader threads; they change no result.")
@_SHARE
@click.option("--fresh", is_flag=True, help="Go on although images or versions have changed: compute again.")
@_UNTIL_DECIDED
@_MAX_SEEDS
@click.option(
    "--wandb",
    type=click.Choice(["auto", "online", "offline", "off"]),
    default="auto",
    show_default=True,
    help="Whether to tell W&B; auto is online with a key, else offline.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where to run.",
)
@click.option("--address", help="The Ray cluster: auto, HOST:PORT or ray://HOST:10001. [default: its own]")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=NUMBER",
    callback=lambda ctx, parameter, values: _resources(values),
    help="What a stage takes of a Ray node: num_gpus=1, num_cpus=4, TPU=4; repeat for more.",
)
def run(recipe: str, assignments: tuple[str, ...], out: str | None, quick: bool, **options: Any) -> None:
    """Run a study, or what is left of it, and print its table of effects.

    Example: ablate run recipes/digits.yaml --set study.seeds=3

    Or until the verdicts are in: ablate run recipes/digits.yaml --until-decided --max-seeds 8

    Or on a Ray cluster: ablate run recipes/digits.yaml --executor ray --resource num_cpus=1
    """
    from ablate.study.execute import run_study

    study = run_study(_load(recipe, assignments), out, quick=quick, **options)
    if study.failures() or (study.trials.status != "ok").any():
        sys.exit(1)


@main.command()
@_RECIPE
@_SET
@_OUT
@click.option("--quick", is_flag=True, help="Plan the smoke run.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps, xla or auto.")
@click.option("--threads", type=click.IntRange(1), help="Torch threads. [default: all cores]")
@_SHARE
@_UNTIL_DECIDED
@_MAX_SEEDS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(recipe: str, assignments: tuple[str, ...], out: str | None, as_json: bool, **options: Any) -> None:
    """Show what a study would run, without running or hashing anything.

    Example: ablate plan recipes/digits.yaml --json
    """
    from ablate.study.planning import plan_study
    from ablate.study.show import print_plan

    numbers, made = plan_study(_load(recipe, assignments), out, **options)
    if as_json:
        click.echo(json.dumps(numbers, indent=1))
    else:
        print_plan(numbers, made)


@main.command()
@_RECIPE
@_SET
def check(recipe: str, assignments: tuple[str, ...]) -> None:
    """Decode every image in full; count classes by split; look for the same image on two sides.

    Exit code 2 if an image cannot be used.

    Example: ablate check recipes/digits.yaml
    """
    from ablate.data.check import check_data
    from ablate.study.show import print_check

    report = check_data(_load(recipe, assignments))
    print_check(report)
    if report.bad:
        sys.exit(2)


@main.command()
@_STUDY
def show(study: str) -> None:
    """Print the table of effects of a study that has been run.

    Example: ablate show runs/digits
    """
    from rich.console import Console

    from ablate.study.show_effects import print_effects
    from ablate.study.study import Study

    print_effects(Console(), Study.open(study))


@main.command()
@_STUDY
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(study: str, as_json: bool) -> None:
    """Tell how far a study is: what is finished, running, failed and still to come, and how long that takes.

    Example: ablate status runs/digits
    """
    from ablate.study.show_status import print_status
    from ablate.study.status import Status
    from ablate.study.study import Study

    found = Status(Study.open(study))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        print_status(found)


@main.command()
@_STUDY
@click.option("--wandb", is_flag=True, help="A W&B report and a saved view too; needs ablate[workspaces].")
def report(study: str, wandb: bool) -> None:
    """Make effects.csv and the report anew from a study's tables; needs no images.

    Example: ablate report runs/digits

    At W&B too, after `ablate sync`: ablate report runs/digits --wandb
    """
    from ablate.study.study import Study

    opened = Study.open(study)
    opened.analyse()
    for name in ("report.html", "report.md"):
        click.echo(opened.folder / name)
    if wandb:
        from ablate.tracking.workspace import write_pages

        for address in write_pages(opened.folder):
            click.echo(address)


@main.command("techniques")
def techniques_() -> None:
    """List all techniques with their options, defaults and papers.

    Example: ablate techniques
    """
    from ablate.study.show import print_techniques

    print_techniques()


@main.command()
@click.argument("source", type=click.Path())
@click.option(
    "--out", default="recipe.yaml", show_default=True, type=click.Path(), help="The recipe to write."
)
@click.option("--force", is_flag=True, help="Replace a recipe that is there.")
def init(source: str, out: str, force: bool) -> None:
    """Write a recipe for a folder of images (one folder per class) or a CSV table.

    Example: ablate init photos/ --out recipe.yaml
    """
    from ablate.recipe.init import write_recipe

    click.echo(write_recipe(Path(source), Path(out), force))


@main.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors to complete and check them.

    Example: ablate schema > recipe.schema.json
    """
    from ablate.recipe.json_schema import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=1))


main.add_command(bench)
main.add_command(completion)
main.add_command(doctor)
main.add_command(export)
main.add_command(predict)
main.add_command(store)
main.add_command(sync)


def _resources(assignments: tuple[str, ...]) -> dict[str, float]:
    """What `--resource` says, by name."""
    found: dict[str, float] = {}
    for assignment in assignments:
        name, _, number = assignment.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise AblateError(f"--resource {assignment}: is not NAME=NUMBER, as in num_gpus=1.") from None
    return found


def _load(recipe: str, assignments: tuple[str, ...]) -> Any:
    from ablate.recipe.load import parse_overrides
    from ablate.recipe.recipe import Recipe

    return Recipe.load(recipe, parse_overrides(list(assignments)))


if __name__ == "__main__":
    main()
