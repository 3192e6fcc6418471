"""Send a whole study to W&B from its folder, later or from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ablate.errors import AblateError
from ablate.study.local_log import LocalLog
from ablate.study.study import Study
from ablate.tracking.tracker import Tracker


def sync_study(
    folder: str | Path,
    *,
    weights: bool = False,
    everything: bool = False,
    note: Callable[[str], None] = print,
) -> str:
    """Send what W&B does not have of a study; gives what was sent, in a sentence.

    Args:
        folder: The study's.
        weights: Whether the weights that predict go along.
        everything: Whether what was sent before is looked at again.
        note: Shows how far it is.

    Raises:
        AblateError: There is no study, or W&B cannot be told.
    """
    study = Study.open(folder)
    _complete_log(study)
    tracker = Tracker(study.folder, "online", note, weights=weights, everything=everything, quiet=True)
    tracker.finish(patient=True)
    if not tracker.sent or not tracker.online:
        problem = tracker.problems[-1]
        raise AblateError(f"W&B: {problem}; `ablate sync {folder}` goes on from what has arrived.")
    return f"{folder}: W&B has everything"


def _complete_log(study: Study) -> None:
    """Add what the log lacks, where the stages are at hand: studies of before have none."""
    from ablate.study.remote_store import store_at

    plan = study.plan
    keys = {key for trial in plan["trials"] for key in trial["fits"]}
    log = LocalLog(study.folder)
    missing = [key for key in keys if log.read(key).finished is None]
    if not missing:
        return
    try:
        store = store_at(plan["store"])
        for key in missing:
            if store.has(key):
                log.complete(key, store.folder(key))
    except (AblateError, OSError):
        return  # what the log has is sent all the same
