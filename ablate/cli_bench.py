"""`ablate bench`: why is my training slow?"""

from __future__ import annotations

import json
import warnings

import click

from ablate.cli_completion import complete_recipe, complete_technique


@click.command()
@click.argument("recipe", type=click.Path(), shell_complete=complete_recipe)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a recipe field; repeat for more.",
)
@click.option("--phase", help="The phase to measure. [default: the last]")
@click.option(
    "--on",
    multiple=True,
    metavar="TECHNIQUE",
    shell_complete=complete_technique,
    help="On beside the baseline's techniques; repeat for more.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps, xla or auto.")
@click.option("--threads", type=click.IntRange(1), help="Torch threads. [default: all cores]")
@click.option("--workers", type=click.IntRange(0), help="Loader threads. [default: by cores]")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="About how long to measure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    recipe: str,
    assignments: tuple[str, ...],
    phase: str | None,
    on: tuple[str, ...],
    device: str,
    threads: int | None,
    workers: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure how many images a second each part of training can do, and name the bottleneck.

    Example: ablate bench recipes/digits.yaml --seconds 2
    """
    warnings.simplefilter("ignore")  # libraries' words to programmers; a run has them in its stages' logs
    from ablate.bench.measure import facts, measure
    from ablate.bench.show import numbers, print_bench, telling
    from ablate.bench.subject import make_subject
    from ablate.bench.verdict import verdict
    from ablate.recipe.load import parse_overrides
    from ablate.recipe.recipe import Recipe

    loaded = Recipe.load(recipe, parse_overrides(list(assignments)))
    with telling() as say:
        options = {"device": device, "threads": threads, "workers": workers}
        subject = make_subject(loaded, phase, on, **options, note=say)  # type: ignore[arg-type]
        rates = measure(subject, seconds, say)
    found = verdict(rates, facts(subject))
    if as_json:
        click.echo(json.dumps(numbers(subject, rates, found), indent=1))
    else:
        print_bench(subject, rates, found)
