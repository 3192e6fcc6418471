"""`ablate doctor`: what this machine can train on."""

from __future__ import annotations

import json
import sys

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Tell which devices there are and work, whether the packages fit together, and what mends the rest.

    Each device is tried in a process of its own. Exit code 1 if there is a problem.

    Example: ablate doctor
    """
    from ablate.devices.doctor import diagnose
    from ablate.devices.doctor.show import print_diagnosis, waiting

    diagnosis = diagnose(waiting)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        print_diagnosis(diagnosis)
    if diagnosis.problems:
        sys.exit(1)
