"""The doctor on XLA's CPU backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.xla


def test_the_doctor_sees_that_xla_works():
    words = [sys.executable, "-m", "ablate.cli", "doctor", "--json"]
    asked = {"PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "2"}
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | asked)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["xla"]["level"] == "ok"
    assert findings["xla"]["text"] == "XLA's CPU backend, as PJRT_DEVICE=CPU asks; works (2 × CPU)"
    assert findings["torch_xla"]["level"] == findings["torch"]["level"] == "ok"
