"""`ablate sync`: send a study to W&B from its folder, as much of it as is not there."""

from __future__ import annotations

import click

from ablate.cli_completion import complete_study


@click.command()
@click.argument("study", type=click.Path(), shell_complete=complete_study)
@click.option("--weights", is_flag=True, help="Send the weights that predict, too, as artifacts.")
@click.option("--all", "everything", is_flag=True, help="Look at what was sent before as well.")
def sync(study: str, weights: bool, everything: bool) -> None:
    """Send to W&B what it does not have of a study, from the study's folder alone.

    Needs neither images nor the stage store. Rows that W&B has are not sent again. Exit code 2 if W&B cannot
    be told.

    Example: ablate sync runs/digits
    """
    from ablate.tracking.sync import sync_study

    click.echo(
        sync_study(study, weights=weights, everything=everything, note=lambda s: click.echo(s, err=True))
    )
