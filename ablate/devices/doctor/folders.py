"""Whether the folders that ablate writes to can be written to, and have room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ablate.devices.doctor.finding import Finding
from ablate.errors import AblateError

_SCARCE = 2**30
"""Bytes that even a small study fills."""


def look_at_folders() -> Iterator[Finding]:
    """One finding for the cache, the stage store and the folder of studies."""
    try:  # these need packages that may be missing here
        from ablate.data.remembered import cache_folder
        from ablate.study.stored import out_folder, store_place
    except ImportError as error:
        text = f"ablate cannot be imported ({error}), so its folders were not looked at"
        yield Finding("folder", "folders", "problem", text, "install ablate again, with all that it needs")
        return
    yield _folder("ABLATE_CACHE", cache_folder())
    store = store_place()
    yield _folder("ABLATE_STORE", store) if isinstance(store, Path) else _url("ABLATE_STORE", store)
    yield _folder("ABLATE_OUT", out_folder())


def _folder(variable: str, folder: Path) -> Finding:
    """What writing to a folder gives, or to the nearest one above it that is there."""
    folder = folder.absolute()
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    mend = f"set {variable} to a folder that can be written to, on a disk with room"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"ablate")
        free = shutil.disk_usage(there).free
    except OSError as error:
        text = f"{folder}: cannot be written to ({error.strerror})"
        return Finding("folder", variable, "problem", text, mend)
    text = f"{folder}: {free / 2**30:,.1f} GiB free"
    return (
        Finding("folder", variable, "note", text, mend)
        if free < _SCARCE
        else Finding("folder", variable, "ok", text)
    )


def _url(variable: str, url: str) -> Finding:
    """What writing to a URL gives."""
    from ablate.study.remote_folders import RemoteFolders

    try:
        RemoteFolders(url).check()
    except AblateError as error:
        return Finding(
            "folder", variable, "problem", str(error), f"set {variable} to a place that can be written to"
        )
    return Finding("folder", variable, "ok", f"{url}: can be written to")
