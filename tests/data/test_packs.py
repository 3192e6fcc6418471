"""Packs and their indices: what was added is found again, and nothing else ever is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.data import packs
from ablate.data.packs import ROW, PackWriter, Presized, checksum, lookup, read_rows, sweep
from ablate.data.presize import Presize

RAW, JPEG = Presize(8), Presize(8, 90)


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 9 + number % 5, 3), dtype=np.uint8)


def content(number: int) -> str:
    return blake2b(str(number).encode(), digest_size=16).hexdigest()


def write(folder: Path, numbers: range, limit: int = 1000, presize: Presize = RAW) -> None:
    folder.mkdir(exist_ok=True)
    writer = PackWriter(folder, limit)
    for number in numbers:
        packed, height, width = presize.pack(image(number)), *image(number).shape[:2]
        crc = checksum(packed, bytes.fromhex(content(number)), height, width)
        writer.add(content(number), packed, height, width, crc)
    writer.finish()
    writer.abandon()


def opened(folder: Path, numbers: range, presize: Presize = RAW) -> Presized:
    path = folder / "some.rows"
    lookup(read_rows(folder), [content(number) for number in numbers]).tofile(path)
    return Presized(folder, presize, path)


@pytest.mark.parametrize("presize", [RAW, JPEG])
@pytest.mark.parametrize("limit", [1, 1000, 10**9])
def test_what_was_added_is_found_by_its_content(tmp_path: Path, limit: int, presize: Presize):
    write(tmp_path, range(20), limit, presize)
    found = opened(tmp_path, range(20), presize)
    assert len(found) == 20
    for number in range(20):
        pixels = found[number]
        assert pixels is not None
        np.testing.assert_array_equal(pixels, presize(image(number)))
    expected = {1: 20, 10**9: 1}.get(limit, len(list(tmp_path.glob("*.pack"))))
    assert len(list(tmp_path.glob("*.pack"))) == len(list(tmp_path.glob("*.index"))) == expected


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 90) | st.none()))
def test_a_lookup_finds_what_a_dictionary_would(there: set[int], wanted: list[int | None]):
    rows = np.zeros(len(there), ROW)
    for row, number in zip(rows, sorted(there), strict=True):
        row["content"], row["pack"], row["width"] = np.void(bytes.fromhex(content(number))), 1, number
    leading = rows["content"].copy().view("<u8").reshape(-1, 2)[:, 0] if len(rows) else []
    rows = rows[np.argsort(leading, kind="stable")]
    found = lookup(rows, [None if number is None else content(number) for number in wanted])
    assert [bool(pack) for pack in found["pack"]] == [number in there for number in wanted]
    assert [int(w) for w in found["width"]] == [number if number in there else 0 for number in wanted]


def test_what_is_not_there_is_none(tmp_path: Path):
    write(tmp_path, range(3))
    found = opened(tmp_path, range(5))
    assert len(found) == 3
    assert found[3] is None
    assert found[99] is None


def test_further_packs_are_beside_those_that_are_there(tmp_path: Path):
    write(tmp_path, range(5), 10**9)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, range(5, 9), 10**9)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert len(opened(tmp_path, range(9))) == 9


def test_pixels_are_read_only_and_pickle(tmp_path: Path):
    write(tmp_path, range(3))
    found = opened(tmp_path, range(3))
    data = pickle.dumps(found)
    assert len(data) < 1000
    pixels = pickle.loads(data)[1]
    np.testing.assert_array_equal(pixels, image(1))
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 0


def test_a_pack_without_an_index_is_not_there_and_is_swept(tmp_path: Path):
    write(tmp_path, range(6), 10**9)
    write(tmp_path, range(6, 9), 10**9)
    (tmp_path / "00000002.index").unlink()
    write(tmp_path / "other", range(9, 12), 10**9)
    for suffix in ("pack", "index"):  # written to the end, but perhaps not on the disk yet
        (tmp_path / "other" / f"00000001.{suffix}").rename(tmp_path / f".00000003.{suffix}")
    (tmp_path / "other").rmdir()
    assert len(opened(tmp_path, range(12))) == 6
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"00000001.pack", "00000001.index", "some.rows"}


def test_a_writer_that_gives_up_leaves_what_is_full_and_no_more(tmp_path: Path):
    writer = PackWriter(tmp_path, 300)
    for number in range(3):  # the first two fill a pack
        packed, height, width = RAW.pack(image(number)), *image(number).shape[:2]
        crc = checksum(packed, bytes.fromhex(content(number)), height, width)
        writer.add(content(number), packed, height, width, crc)
    writer.abandon()
    assert {path.name for path in tmp_path.iterdir()} == {"00000001.pack", "00000001.index"}
    assert len(opened(tmp_path, range(3))) == 2


def _flip(data: bytearray, place: int) -> bytes:
    data[place % len(data)] ^= 1 << place % 8
    return bytes(data)


def _swap(data: bytearray, place: int) -> bytes:
    size = min(1 + place % 24, len(data) // 2)
    one, other = place % (len(data) - size), place // 7 % (len(data) - size)
    first = bytes(data[one : one + size])
    data[one : one + size] = data[other : other + size]
    data[other : other + size] = first
    return bytes(data)


DAMAGE: dict[str, Callable[[bytearray, int], bytes]] = {
    "flip": _flip,
    "swap": _swap,
    "cut": lambda data, place: bytes(data[: place % len(data)]),
    "cut rows": lambda data, place: bytes(data[: place % len(data) // ROW.itemsize * ROW.itemsize]),
    "zero": lambda data, place: bytes(data[: place % len(data)]) + bytes(len(data) - place % len(data)),
    "longer": lambda data, place: bytes(data) + bytes(place % 100),
}


@pytest.mark.parametrize("presize", [RAW, JPEG], ids=["raw", "jpeg"])
@pytest.mark.parametrize("suffix", ["pack", "index"])
def test_damage_never_gives_other_pixels(
    suffix: str, presize: Presize, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("packs")
    write(folder, range(10), 700, presize)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    targets = sorted(folder.glob(f"*.{suffix}"))

    @settings(max_examples=150)
    @given(st.sampled_from(targets), st.sampled_from(sorted(DAMAGE)), st.integers(0, 10**6))
    def check(path: Path, damage: str, place: int):
        path.write_bytes(DAMAGE[damage](bytearray(whole[path]), place))
        try:
            found = opened(folder, range(10), presize)
            for number in range(10):
                pixels = found[number]
                assert pixels is None or np.array_equal(pixels, presize(image(number)))
        finally:
            for each, content in whole.items():  # an index goes when its pack is found damaged
                each.write_bytes(content)

    check()
    assert all(opened(folder, range(10), presize)[number] is not None for number in range(10))


def test_a_damaged_pack_is_told_and_forgotten_so_that_it_is_written_anew(tmp_path: Path):
    write(tmp_path, range(4), 10**9)
    (pack,) = tmp_path.glob("*.pack")
    pack.write_bytes(_flip(bytearray(pack.read_bytes()), 5))
    found = opened(tmp_path, range(4))
    with pytest.warns(UserWarning, match=r"00000001\.pack: is damaged"):
        assert found[0] is None
    np.testing.assert_array_equal(found[3], image(3))  # what is whole is still read
    assert len(opened(tmp_path, range(4))) == 0


def test_rows_that_change_places_are_not_taken_for_each_other(tmp_path: Path):
    write(tmp_path, range(4), 10**9)
    (path,) = tmp_path.glob("*.index")
    rows = np.fromfile(path, ROW)
    for field in ROW.names:
        changed = rows.copy()
        changed[field][[0, 1]] = rows[field][[1, 0]]
        changed.tofile(path)
        found = opened(tmp_path, range(4))
        for number in range(4):
            pixels = found[number]
            assert pixels is None or np.array_equal(pixels, image(number)), field
        rows.tofile(path)


def test_a_pack_that_goes_while_it_is_used(tmp_path: Path):
    write(tmp_path, range(4), 1)
    found = opened(tmp_path, range(4))
    assert found[0] is not None
    for path in tmp_path.glob("*.pack"):
        path.unlink()
    np.testing.assert_array_equal(found[0], image(0))  # mapped already
    assert found[1] is None
    (tmp_path / "00000003.pack").touch()
    assert found[2] is None


@pytest.mark.parametrize("step", ["write", "sync", "rename"])
def test_a_failure_while_sealing_is_told_and_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, range(2), 10**9)
    before = sorted(tmp_path.iterdir())

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "sync":
        monkeypatch.setattr(packs.sealed, "sync", full)
    elif step == "rename":
        monkeypatch.setattr(Path, "rename", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    writer = PackWriter(tmp_path, 10**9)
    packed, height, width = RAW.pack(image(5)), *image(5).shape[:2]
    writer.add(content(5), packed, height, width, checksum(packed, bytes.fromhex(content(5)), height, width))
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    writer.abandon()
    assert sorted(tmp_path.iterdir()) == before


def test_a_cache_that_is_deleted_before_a_stage_opens_it(tmp_path: Path):
    write(tmp_path, range(2), 10**9)
    found = opened(tmp_path, range(2))
    assert found[0] is not None
    sent = pickle.dumps(found)
    found.path.unlink()
    assert pickle.loads(sent)[0] is None
