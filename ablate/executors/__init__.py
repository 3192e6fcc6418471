"""Where stages run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ablate.errors import AblateError
from ablate.executors.base import Executor

NAMES = ("local", "ray")


def make_executor(
    name: str,
    logs: Path,
    device: str = "auto",
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> Executor:
    """The executor of a name.

    Args:
        name: local or ray.
        logs: The folder for what stages print.
        device: The name of a device, or auto.
        address: Of a Ray cluster.
        resources: What each stage takes of a Ray node.

    Raises:
        AblateError: There is no such executor, device or cluster, or the options do not go together.
    """
    if name == "ray":
        from ablate.executors.ray import RayExecutor

        return RayExecutor(logs, device, address, resources)
    if name != "local":
        raise AblateError(f"executor: there is no {name!r}; take {' or '.join(NAMES)}.")
    if address is not None or resources:
        raise AblateError(
            "address, resources: are for the executor ray; add --executor ray, or leave them out."
        )
    from ablate import devices
    from ablate.executors.local import LocalExecutor

    return LocalExecutor(logs, devices.choose(device))
