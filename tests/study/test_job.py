"""Jobs travel to other processes as they are."""

from __future__ import annotations

import pickle

from ablate.study.job import Job


def test_a_job_survives_the_trip():
    job = Job(
        "key", "label", {"kind": "fit", "phase": {"lr": [1e-6, 1e-4]}}, "folder", {"root": "r"}, workers=2
    )
    assert pickle.loads(pickle.dumps(job)) == job
