"""The study's id is made once, and what was sent whole is remembered by place."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ablate.errors import AblateError
from ablate.tracking.notes import Notes


def test_the_id_is_made_once(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "a")
    assert notes.id == Notes(tmp_path / "a").id
    assert notes.id != Notes(tmp_path / "b").id


def test_what_was_sent_is_remembered_by_place(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: notes.note("here", f"run {n}", "state", "url"), range(20)))
    notes.note("there", "run 0", "other", "")
    again = Notes(tmp_path)
    assert len(again.sent("here")) == 20
    assert again.sent("there") == {"run 0": {"state": "other", "url": ""}}
    again.forget("here")
    assert Notes(tmp_path).sent("here") == {}
    assert Notes(tmp_path).sent("there")


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    (tmp_path / "wandb" / "sent.json").write_text("[")
    assert notes.sent("here") == {}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "wandb").write_text("a file")
    with pytest.raises(AblateError, match=r"wandb.*cannot be written"):
        Notes(tmp_path)
