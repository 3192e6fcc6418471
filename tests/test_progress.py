from __future__ import annotations

import pytest

from ablate.progress import Told


def test_a_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told = Told()
    for done in range(1, 13):
        now[0] = float(done)
        told(done, 12)
    assert capsys.readouterr().err.splitlines() == [
        "looked at 6 of 12 new images",
        "looked at 12 of 12 new images",
    ]


def test_what_is_quick_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    quick, slow = Told(after=2), Told(after=2)
    now[0] = 1.9
    quick(3, 3)
    now[0] = 2.1
    slow(3, 3, "new shards")
    assert capsys.readouterr().err == "looked at 3 of 3 new shards\n"
