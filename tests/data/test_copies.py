from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from shard_writers import picture, samples, write_tar

from ablate.data import copies
from ablate.data.copies import LIMIT, folder, limit, local_copy
from ablate.data.items import load_items
from ablate.data.shards import Member, Shard, find_shards
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

SIZE = 1000


@pytest.fixture(autouse=True)
def remote() -> Iterator[MemoryFileSystem]:
    """Eight remote shards of 1000 bytes."""
    files = fsspec.filesystem("memory")
    for i in range(8):
        files.pipe(f"/far/{i}.tar", bytes([i]) * SIZE)
    yield files
    files.rm("/far", recursive=True)


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is fetched, in turn."""
    names: list[str] = []
    get = MemoryFileSystem.get_file

    def counted(self: MemoryFileSystem, path: str, to: str, **kwargs: object) -> None:
        names.append(path.rpartition("/")[2])
        time.sleep(0.02)
        get(self, path, to, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "get_file", counted)
    return names


def shards() -> list[Shard]:
    return find_shards("memory://far", "*.tar")


def kept() -> set[str]:
    return {path.name.rpartition("-")[2] for path in folder().iterdir() if path.is_file()}


def use_long_ago(shard: Shard, age: float) -> None:
    path = local_copy(shard)
    os.utime(path, (time.time() - age,) * 2)


def test_a_copy_is_fetched_once(fetches: list[str]):
    shard = shards()[3]
    assert fetches == []
    assert Member(shard, 10, 3).read() == b"\3\3\3"
    assert local_copy(shard).read_bytes() == bytes([3]) * SIZE
    assert fetches == ["3.tar"]


def test_threads_that_want_the_same_copy_fetch_it_once(fetches: list[str]):
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(local_copy, shards()[:2] * 4))
    assert len(paths) == 2
    assert sorted(fetches) == ["0.tar", "1.tar"]
    assert not [path for path in folder().iterdir() if path.name.startswith(".") and path.is_file()]


def test_the_least_recently_used_copies_make_room(monkeypatch: pytest.MonkeyPatch, fetches: list[str]):
    monkeypatch.setenv(LIMIT, str(3.5 * SIZE / 1e9))
    found = shards()
    for i, age in ((0, 300), (1, 400), (2, 200)):
        use_long_ago(found[i], age)
    local_copy(found[0])  # which marks it as used
    local_copy(found[3])
    assert kept() == {"0.tar", "2.tar", "3.tar"}
    local_copy(found[4])
    assert kept() == {"0.tar", "3.tar", "4.tar"}
    with found[3].opened() as file:
        for i in (5, 6, 7):
            local_copy(found[i])
        assert kept() == {"5.tar", "6.tar", "7.tar"}
        assert file.read() == bytes([3]) * SIZE
    assert Member(found[3], 0, 1).read() == b"\3"


def test_a_shard_above_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(LIMIT, str(SIZE / 2e9))
    with pytest.raises(AblateError, match=rf"0\.tar: has .* local copies may take .*raise {LIMIT}"):
        local_copy(shards()[0])
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(AblateError, match=f"{LIMIT}: 'much' is no number of gigabytes"):
        limit()


def test_by_default_half_of_the_room_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * SIZE))
    assert limit() == 5 * SIZE
    local_copy(shards()[0])
    assert limit() == 5.5 * SIZE


def test_a_shard_that_has_changed_is_not_taken_for_the_old_one(remote: MemoryFileSystem):
    old = shards()[0]
    remote.pipe("/far/0.tar", b"new" * SIZE)
    with pytest.raises(AblateError, match=r"0\.tar: the shard has changed since it was looked for"):
        local_copy(old)
    assert kept() == set()
    assert local_copy(shards()[0]).read_bytes() == b"new" * SIZE


def test_what_arrives_only_in_part_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    shard = shards()[0]
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda self, path, to: Path(to).write_bytes(b"half"))
    with pytest.raises(AblateError, match=r"0\.tar: 4 of 1000 bytes arrived; run the same command again"):
        local_copy(shard)
    assert kept() == set()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), r"cannot be kept there \(the disk is full\)"),
        (ConnectionResetError("peer"), r"cannot be reached \(peer\)"),
        (RuntimeError(), r"cannot be reached \(RuntimeError\)"),
    ],
)
def test_a_fetch_that_fails(error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch):
    shard = shards()[0]

    def fail(self: MemoryFileSystem, path: str, to: str) -> None:
        Path(to).write_bytes(b"half")
        raise error

    monkeypatch.setattr(MemoryFileSystem, "get_file", fail)
    with pytest.raises(AblateError, match=expected):
        local_copy(shard)
    assert kept() == set()


def test_unfinished_copies_of_dead_processes_are_swept():
    found = shards()
    dead = folder() / ".deadbeef-0.tar.999999999"
    folder().mkdir(parents=True)
    dead.write_bytes(b"x" * SIZE)
    local_copy(found[0])
    assert not dead.exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Three tars of ten images on a web server."""
    for i in range(3):
        write_tar(tmp_path / "web" / f"t-{i}.tar", samples(10 * i, 10 * i + 10))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web"))
    ) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_items_of_a_web_server(server: str, tmp_path: Path):
    def load() -> list[bytes]:
        data = Data.model_validate({"root": server, "shards": "t-{0..2}.tar", "split": {"shards": "t-2.tar"}})
        items = load_items(data)
        assert items.held_out is not None
        assert items.held_out.sum() == 10
        return [item.image.read() for item in items.items if isinstance(item.image, Member)]

    assert load() == [picture(i) for i in range(30)]
    assert kept() == {"0.tar", "1.tar", "2.tar"}
    write_tar(tmp_path / "web" / "t-1.tar", samples(50, 59))
    os.utime(tmp_path / "web" / "t-1.tar", (1, 1))
    assert load() == [picture(i) for i in [*range(10), *range(50, 59), *range(20, 30)]]


def test_more_than_there_is_room_for(server: str, monkeypatch: pytest.MonkeyPatch):
    size = shards_size(server)
    monkeypatch.setenv(LIMIT, str(2.5 * size / 1e9))
    fields = {"root": server, "shards": "t-{0..2}.tar"}
    with pytest.raises(AblateError, match=r"read a few at a time, with data\.stream"):
        load_items(Data.model_validate(fields))
    with pytest.raises(AblateError, match=r"lower data\.stream\.shards"):
        load_items(Data.model_validate(fields | {"stream": {"shards": 2}}))
    items = load_items(Data.model_validate(fields | {"stream": {"shards": 1}}))
    assert len(items.items) == 30


def shards_size(server: str) -> int:
    return max(shard.size for shard in find_shards(server, "t-{0..2}.tar"))
