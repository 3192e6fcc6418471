"""What lies in a stage store at a URL; see `ablate.study.stored` for one in a folder."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from functools import partial
from typing import Any

from ablate import sealed
from ablate.study.remote_checkpoints import WORK
from ablate.study.remote_folders import Entry
from ablate.study.remote_store import RemoteStore
from ablate.study.stored import Held


def remote_held(store: RemoteStore) -> dict[str, Held]:
    """What a store at a URL holds of each stage, in one listing."""
    objects: defaultdict[str, list[Entry]] = defaultdict(list)
    for name, entry in store.listing().entries.items():
        parts = name.split("/")
        if parts[0] == WORK or not name.startswith("."):
            objects[parts[1] if parts[0] == WORK else parts[0]].append(entry)
    return {
        key: Held(
            published=key in store.listing().finished,
            bytes=sum(entry.bytes for entry in found),
            written=max((entry.written for entry in found if entry.written), default=time.time()),
            settings=partial(_settings, store, key),
        )
        for key, found in objects.items()
    }


def _settings(store: RemoteStore, key: str) -> dict[str, Any]:
    name = "settings.json"
    digest = (store.seal(key) or {"files": {}})["files"].get(name)
    data = store.remote.read(f"{key}/{digest}/{name}") if digest else None
    return dict(json.loads(data)) if data and sealed.checksum(data) == digest else {}
