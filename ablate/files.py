"""Files that are replaced as a whole: a reader meets the old one or the new one, whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate import sealed
from ablate.errors import AblateError

_TEMPORARY = re.compile(r"\..+\.(\d+)")
"""The name of an unfinished file, with the process that writes it."""


def replace_file(path: Path, write: Callable[[Path], Any], place: str = "--out") -> None:
    """Write a file under another name, then rename it: whatever happens, there is the old one or the new one.

    Args:
        path: The file.
        write: Writes it under the name that it is given.
        place: What sets the folder, to name it in errors.

    Raises:
        AblateError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        sealed.sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise AblateError(
            f"{path}: cannot be written ({error.strerror}); free the place or use another {place}."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that are gone."""
    for place, _, names in os.walk(folder):  # unlike Path.rglob it bears with folders that go meanwhile
        for name in names:
            match = _TEMPORARY.fullmatch(name)
            if match and not _is_alive(int(match[1])):
                Path(place, name).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
