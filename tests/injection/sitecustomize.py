"""Put on the PYTHONPATH of a real run: counts what it does to files, and kills it or fills the disk there.

Python imports this in every process, fork server and stages included. `ABLATE_INJECTION` is a folder:

shots.json      {"root": …, "shots": [{"kind", "at", "action", "after", "lasting"}, …]}
calls           a line per call under the root: `pid kind operation path`, before it is made
fired           a line per shot, as it is fired

The `at`-th call of a kind, in whichever process comes there first, fires a shot once. `kill` is SIGKILL to
the process itself, before or `after` the call; `full` is ENOSPC instead of the call, and of every later one
in the process if it is `lasting`.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import json
import os
import re
import signal
from collections.abc import Callable
from typing import Any

KINDS = {
    "checkpoint": r"\.stages/\.work/\w+/\.?epoch-",
    "seal": r"\.stages/\.work/\w+/out/\.?DONE\.json$",
    "publication": r"\.stages/\w+$",
    "stage": r"\.stages/\.work/",
    "lock": r"\.stages/\.locks/",
    "memo": r"\.stages/\.measured",
    "store": r"\.stages",
    "report": r"\w+/(plots|thumbnails|\.?report\.(html|md))",
    "tables": r"\w+/\.?(trials|history|effects|details|pairs|predictions|failures)\.",
    "study": r"\w+/\.*(plan\.json|recipe\.yaml|machine\.json|finished)",
    "log": r"\w+/logs",
}
"""Paths by kind, relative to the root; the first that matches."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kind_of(path: str) -> str:
    """What a path under the root is part of."""
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, path)), "other")


class Injection:
    """The shots of one run.

    Args:
        folder: See above.
    """

    def __init__(self, folder: str):
        self.folder, self.full = folder, False
        self.open, self.write, self.close = os.open, os.write, os.close
        with open(f"{folder}/shots.json") as file:
            content = json.load(file)
        self.root, self.shots = content["root"], content["shots"]

    def call(self, operation: str, path: str, make: Callable[[], Any], fills: bool = True) -> Any:
        """Count a call and make it, unless a shot says otherwise.

        Args:
            operation: Its name.
            path: What it changes.
            make: Makes it.
            fills: Whether a full disk can refuse it.
        """
        if not path.startswith(self.root + "/"):
            return make()
        path = path.removeprefix(self.root + "/")
        kind = kind_of(path)
        fills = fills and kind != "memo"  # which a run can do without
        shot = self._count(kind, operation, path, fills)
        if shot and shot["action"] == "kill":
            if shot["after"]:
                make()
            os.kill(os.getpid(), signal.SIGKILL)
        if fills and (shot or self.full):
            self.full = self.full or shot["lasting"]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return make()

    def _count(self, kind: str, operation: str, path: str, fills: bool) -> dict[str, Any] | None:
        """Write a call down; gives the shot that it fires."""
        calls = self.open(f"{self.folder}/calls", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(calls, fcntl.LOCK_EX)
            self.write(calls, f"{os.getpid()} {kind} {operation} {path}\n".encode())
            fired = self._numbers("fired")
            counts = self._counts()
            for number, shot in enumerate(self.shots):
                due = shot["kind"] in (kind, "any") and counts.get(shot["kind"], 0) >= shot["at"]
                if due and number not in fired and (fills or shot["action"] == "kill"):
                    told = self.open(f"{self.folder}/fired", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                    self.write(told, f"{number} {shot['action']} {kind} {operation} {path}\n".encode())
                    self.close(told)
                    return shot
            return None
        finally:
            self.close(calls)

    def _counts(self) -> dict[str, int]:
        counts = {"any": 0}
        for line in self._lines("calls"):
            kind = line.split()[1]
            counts[kind] = counts.get(kind, 0) + 1
            counts["any"] += 1
        return counts

    def _numbers(self, name: str) -> set[int]:
        return {int(line.split()[0]) for line in self._lines(name)}

    def _lines(self, name: str) -> list[str]:
        try:
            with _open(f"{self.folder}/{name}") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []


def _absolute(path: Any, folder: int | None = None) -> str:
    """A path, or an open file, as an absolute path."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    start = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.join(start, os.fsdecode(path))


def _patched(injection: Injection) -> None:
    """Have every call that changes files counted."""

    def one(name: str, fills: bool) -> None:
        real = getattr(os, name)

        def call(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> Any:
            if dir_fd is not None:
                kwargs["dir_fd"] = dir_fd
            full = _absolute(path, dir_fd)
            if os.path.lexists(full) == (name == "mkdir"):  # it will fail for that reason, on any disk
                return real(path, *args, **kwargs)
            return injection.call(name, full, lambda: real(path, *args, **kwargs), fills)

        _put(name, real, call)

    def two(name: str) -> None:
        real = getattr(os, name)

        def call(source: Any, target: Any, **kwargs: Any) -> Any:
            return injection.call(name, _absolute(target), lambda: real(source, target, **kwargs))

        _put(name, real, call)

    for name in ("rename", "replace", "link"):
        two(name)
    for name in ("fsync", "mkdir"):
        one(name, fills=True)
    for name in ("unlink", "rmdir"):
        one(name, fills=False)
    opened = os.open

    def open_descriptor(path: Any, flags: int, *args: Any, dir_fd: int | None = None) -> int:
        def make() -> int:
            return opened(path, flags, *args, dir_fd=dir_fd)

        return injection.call("open", _absolute(path, dir_fd), make) if flags & _WRITING else make()

    def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        def make() -> Any:
            return _open(file, mode, *args, **kwargs)

        writes = not isinstance(file, int) and set(mode) & set("wax+")
        return injection.call("open", _absolute(file), make) if writes else make()

    _put("open", opened, open_descriptor)
    builtins.open = io.open = open_file  # type: ignore[assignment]


def _put(name: str, real: Any, ours: Any) -> None:
    if real in os.supports_dir_fd:
        os.supports_dir_fd.add(ours)
    setattr(os, name, ours)


_open = open
if "ABLATE_INJECTION" in os.environ:
    _patched(Injection(os.environ["ABLATE_INJECTION"]))
