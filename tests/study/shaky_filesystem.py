"""A file system in memory, for fsspec, on which anything can happen at any operation: `shaky://`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Killed(BaseException):
    """What ends a process in the middle of an operation, as far as one process can stand for two."""


class ShakyFileSystem(MemoryFileSystem):
    """Calls `before(operation, path)` before each; where that raises Killed, half a file is written."""

    protocol = "shaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    before: ClassVar[Callable[[str, str], None]] = staticmethod(lambda operation, path: None)
    torn: ClassVar[bool] = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("shaky://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        try:
            type(self).before("write", path)
        except Killed:
            if self.torn:
                super().pipe_file(path, value[: len(value) // 2])
            raise
        super().pipe_file(path, value, mode=mode, **options)

    def put_file(self, lpath: str, rpath: str, *_: Any, **options: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def cat_file(self, path: str, *_: Any, **options: Any) -> bytes:
        type(self).before("read", path)
        return bytes(super().cat_file(path))

    def get_file(self, rpath: str, lpath: str, *_: Any, **options: Any) -> None:
        data = bytes(super().cat_file(rpath))
        try:
            type(self).before("read", rpath)
        except Killed:
            if self.torn:
                Path(lpath).write_bytes(data[: len(data) // 2])
            raise
        Path(lpath).write_bytes(data)

    def find(self, path: str, *_: Any, **options: Any) -> Any:
        type(self).before("list", path)
        return super().find(path, **options)

    def rm(self, path: str, *_: Any, **options: Any) -> None:
        type(self).before("remove", path)
        super().rm(path, **options)


fsspec.register_implementation("shaky", ShakyFileSystem, clobber=True)
