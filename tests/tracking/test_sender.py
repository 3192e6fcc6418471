"""What is sent while trials train, where more of them do than there may be runs open."""

import sys
from pathlib import Path

from arrived import histories, lacking
from loopback import Loopback
from tracked import Replay, wait_until

from ablate.tracking.tracker import Tracker

ONE_OPEN = """
import os, sys
from ablate.tracking import process, sender
sender.MOST_OPEN = 1
os._exit(process.main(sys.argv[1:]))
"""


def test_a_trial_that_was_trained_makes_room_for_the_next(backend: Loopback, study: Path) -> None:
    expected = histories(study)
    replay = Replay(study)
    tracker = Tracker(study, "online", print)
    tracker._command = [sys.executable, "-c", ONE_OPEN, str(study), "online"]
    tracker.start()
    replay.train(len(replay.lines))
    wait_until(lambda: {name: len(run.rows) for name, run in backend.trials.items()} == sizes(expected))
    first = backend.trials["baseline seed 0"]
    wait_until(lambda: first.exit_code == 0)
    assert "score_accuracy" not in first.summary
    replay.finish()
    tracker.finish(patient=True)
    assert tracker.sent
    assert lacking(backend, study) == []
    assert first.summary["status"] == "ok"
    assert "predictions" in first.rows[-1]
    assert all(run.received == len(run.rows) for run in backend.trials.values())


def sizes(rows: dict[str, list[dict[str, float]]]) -> dict[str, int]:
    return {name: len(each) for name, each in rows.items()}
