"""Real stores with stages of a few bytes, for the tests of what looks after a store."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from ablate import sealed
from ablate.study.store import OUT, Store

DAY = 86400.0


def make_store(root: Path) -> Store:
    """A store with nothing in it."""
    store = Store(root)
    store.make_writable()
    return store


def settings(kind: str = "fit", epochs: int = 8) -> dict[str, Any]:
    """What of a stage's settings these tests look at."""
    return {"kind": kind, "phase": {"epochs": epochs, "size": 16}}


def finish(store: Store, key: str, text: str = "weights", days: float = 0.0, status: str = "ok") -> None:
    """Publish a stage that was finished some days ago."""
    out = store.workplace(key) / OUT
    (out / "weights").write_text(text)
    (out / "settings.json").write_text(json.dumps(settings()))
    finished = time.time() - days * DAY
    sealed.seal(out, label=f"label of {key[:4]}", status=status, seconds=1.0, finished=finished)
    assert store.publish(key)


def begin(store: Store, key: str, epochs: int = 0, days: float = 0.0) -> None:
    """An unfinished stage whose last checkpoint, if any, was written after some epochs."""
    work = store.workplace(key)
    if epochs:
        (work / f"epoch-{epochs - 1}").mkdir()
        (work / f"epoch-{epochs - 1}" / "weights").write_text("weights")
    (store.root / ".locks" / key).touch()
    for path in (*work.iterdir(), work):
        os.utime(path, times=(time.time() - days * DAY,) * 2)


def study(store: Store, folder: Path, *keys: str) -> Path:
    """A study that uses some stages."""
    folder.mkdir(parents=True)
    stages = {key: {"label": f"planned {key[:4]}", "settings": settings()} for key in keys}
    (folder / "plan.json").write_text(json.dumps({"stages": stages}))
    store.refer(folder)
    return folder


@contextmanager
def computed_elsewhere(store: Store, key: str) -> Iterator[None]:
    """Have a live process hold the lock of a stage meanwhile."""
    context = multiprocessing.get_context("spawn")
    held, enough = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(store.root, key, held, enough))
    process.start()
    try:
        assert held.wait(60)
        yield
    finally:
        enough.set()
        process.join()


def _hold(root: Path, key: str, held: Event, enough: Event) -> None:
    with Store(root).lock(key) as ours:
        assert ours
        held.set()
        enough.wait(60)


def flip(path: Path) -> None:
    """Change one byte of a file, and neither its size nor its time."""
    times, data = (path.stat().st_atime_ns, path.stat().st_mtime_ns), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=times)
