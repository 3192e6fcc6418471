"""What is remembered in `<study>/wandb/`: the study's id, what was sent whole, and who is sending."""

from __future__ import annotations

import json
import secrets
import threading
from pathlib import Path

from filelock import FileLock

from ablate.files import replace_file

FOLDER = "wandb"


class Notes:
    """The notes of a study.

    Args:
        study: The study's folder.

    Raises:
        AblateError: `wandb` in it cannot be written.
    """

    def __init__(self, study: Path):
        self.folder = study / FOLDER
        self._file = self.folder / "sent.json"
        path = self.folder / "id"
        if not path.is_file():
            replace_file(path, lambda to: to.write_text(secrets.token_hex(8)))
        self.id = path.read_text().strip()
        self.lock = FileLock(self.folder / ".lock")
        self._writing = threading.Lock()

    def sent(self, place: str) -> dict[str, dict[str, str]]:
        """What was sent whole to a place: by run id, its `state` (a hash) and `url`."""
        return self._read().get(place, {})

    def note(self, place: str, run: str, state: str, url: str) -> None:
        """Remember that a run was sent whole, in this state."""
        with self._writing:
            content = self._read()
            content.setdefault(place, {})[run] = {"state": state, "url": url}
            replace_file(self._file, lambda to: to.write_text(json.dumps(content, indent=1)))

    def forget(self, place: str) -> None:
        """Have everything looked at anew."""
        content = self._read()
        if content.pop(place, None):
            replace_file(self._file, lambda to: to.write_text(json.dumps(content, indent=1)))

    def _read(self) -> dict[str, dict[str, dict[str, str]]]:
        try:
            content = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
