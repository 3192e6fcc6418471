"""The cache of presized images: built once, by content, whatever happens; never a wrong image."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from real_runs import needs_mounts

from ablate.data import cache, inspect, place
from ablate.data.cache import cache_bytes, look_and_keep
from ablate.data.images import decode
from ablate.data.items import Item, load_items
from ablate.data.looks import Looks
from ablate.data.packs import PackWriter, Presized
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

P24, P30 = Presize(24), Presize(30)
Count = Callable[[], int]
LARGE = st.integers(0, 10**9)


@pytest.fixture
def items(photos: Path) -> list[Item]:
    return of(photos)


def of(root: Path) -> list[Item]:
    return list(load_items(Data.model_validate({"root": str(root)})).items)


def pathed(item: Item) -> Path:
    assert isinstance(item.image, Path)
    return item.image


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many images have been decoded to be looked at since it was last asked."""
    done: list[str] = []

    def counted(source: Any, name: str) -> np.ndarray:
        done.append(name)
        return decode(source, name)

    def count() -> int:
        number = len(done)
        done.clear()
        return number

    monkeypatch.setattr(inspect, "decode", counted)
    return count


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PackWriter", partial(PackWriter, limit=10_000))


def agree(items: list[Item], presized: dict[int, Presized], *presizes: Presize, all_kept: bool = True):
    """The cached pixels, and those of whoever uses them, are those without a cache."""
    for presize in presizes:
        kept = presized[presize.shorter]
        for item in items:
            expected = presize(decode(item.image))
            found = kept[item.number]
            if all_kept:
                assert found is not None
            if found is not None:
                np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(Pixels(presize, kept)(item), expected)


def files(pattern: str = "*") -> list[str]:
    return sorted(
        str(path.relative_to(place.root())) for path in place.root().rglob(pattern) if path.is_file()
    )


def leftovers() -> list[str]:
    return [name for name in files(".*") if name != ".lock"]


def n_rows(presize: Presize) -> int:
    return len(cache.read_rows(place.root() / presize.name))


def test_images_are_decoded_once_for_all_presizes(items: list[Item], decodes: Count):
    jpeg = Presize(20, 90)
    seen, presized = look_and_keep(items, [P24, P30, jpeg])
    assert decodes() == 24
    assert sorted(presized) == [20, 24, 30]
    assert {one.hash for one in seen} == {one.hash for one in inspect.inspect(items)}
    agree(items, presized, P24, P30, jpeg)
    assert decodes() == 0
    again, presized = look_and_keep(items, [P24, P30, jpeg])
    assert decodes() == 0
    assert again == seen
    agree(items, presized, P24, P30, jpeg)
    look_and_keep(items, [P24, Presize(26)])  # one that is there, one that is new
    assert decodes() == 24
    assert [n_rows(presize) for presize in (P24, P30, jpeg, Presize(26))] == [24] * 4
    assert leftovers() == []


def test_a_cache_after_a_look_decodes_again_and_a_look_after_a_cache_does_not(
    items: list[Item], decodes: Count
):
    before = inspect.inspect(items)
    assert decodes() == 24
    seen, presized = look_and_keep(items, [P24])
    assert (decodes(), seen) == (24, before)
    agree(items, presized, P24)
    assert inspect.inspect(items) == before
    assert decodes() == 0


def test_progress_tells_of_the_images_that_are_decoded(items: list[Item]):
    told: list[tuple[int, int]] = []
    look_and_keep(items[:10], [P24])
    look_and_keep(items, [P24], progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 14) for i in range(1, 15)]


def test_what_changes_comes_or_goes_concerns_itself_alone(items: list[Item], photos: Path, decodes: Count):
    look_and_keep(items, [P24])
    decodes()
    Image.fromarray(np.full((50, 60, 3), 9, np.uint8)).save(pathed(items[3]))
    Image.fromarray(np.full((33, 44, 3), 77, np.uint8)).save(photos / "cat" / "new.png")
    pathed(items[8]).unlink()
    changed = of(photos)
    _, presized = look_and_keep(changed, [P24])
    assert decodes() == 2
    agree(changed, presized, P24)
    assert n_rows(P24) == 26  # what was there stays, for those who use it
    moved = photos.rename(photos.parent / "elsewhere")
    _, presized = look_and_keep(of(moved), [P24])
    assert n_rows(P24) == 26
    agree(of(moved), presized, P24)


def test_the_same_content_under_two_names_is_kept_once(items: list[Item], photos: Path):
    for i in range(5):
        shutil.copy(pathed(items[0]), photos / "dog" / f"copy{i}.jpg")
    items = of(photos)
    _, presized = look_and_keep(items, [P24])
    assert n_rows(P24) == 24
    agree(items, presized, P24)


def test_items_are_found_by_number_whatever_is_left_out(items: list[Item]):
    some = items[5:20:3]
    _, presized = look_and_keep(some, [P24])
    agree(some, presized, P24)
    assert presized[24][6] is None  # numbers in between
    assert len(presized[24]) == len(some)


def test_bad_images_are_told_and_not_kept(items: list[Item], decodes: Count):
    pathed(items[0]).write_bytes(pathed(items[0]).read_bytes()[:400])
    pathed(items[1]).write_bytes(b"")
    pathed(items[2]).unlink()
    Image.new("RGB", (4000, 1)).save(pathed(items[3]))  # good, but too long to be presized
    for _ in range(2):
        seen, presized = look_and_keep(items, [P24])
        assert [bool(one.error) for one in seen] == [True] * 3 + [False] * 21
        assert [presized[24][i] is None for i in range(24)] == [True] * 4 + [False] * 20
        agree(items[4:], presized, P24)
        assert leftovers() == []


def test_pixels_in_memory_need_no_cache():
    items = list(load_items(Data.model_validate({})).items[:20])
    seen, presized = look_and_keep(items, [P24])
    assert (len(seen), presized) == (20, {})
    assert not place.root().exists()
    assert np.array_equal(Pixels(P24)(items[0]), P24(decode(items[0].image)))


def test_without_presizes_there_is_no_cache(items: list[Item]):
    assert look_and_keep(items, [])[1] == {}
    assert not place.root().exists()


def test_how_much_disk_it_takes_is_known_beforehand(items: list[Item]):
    seen = inspect.inspect(items)
    expected = cache_bytes(items, seen, [P24, P30])
    assert expected is not None
    look_and_keep(items, [P24, P30])
    assert sum(path.stat().st_size for path in place.root().rglob("*.pack")) == expected
    assert cache_bytes(items * 2, Looks.of([*seen, *[None] * 24]), [P24, P30]) == 2 * expected
    assert cache_bytes(items, Looks(24), [P24, P30]) == expected  # by the files' first bytes
    raw, jpeg = (cache_bytes(items, seen, [Presize(24, quality)]) for quality in (None, 90))
    assert 0 < jpeg < raw
    assert cache_bytes(items, seen, []) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_without_room(known: bool, items: list[Item], monkeypatch: pytest.MonkeyPatch):
    if known:
        inspect.inspect(items)
    notes: list[str] = []
    needed = cache_bytes(items, inspect.inspect(items), [P24]) if known else 10_000
    free = cache.SPARE + needed - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    seen, presized = look_and_keep(items, [P24], note=notes.append)
    assert (len(seen), presized) == (24, {})
    (note,) = notes
    assert str(place.root()) in note
    assert "set ABLATE_CACHE" in note
    assert "format: jpeg" in note
    assert files("[0-9]*.pack") == []
    if known:
        with pytest.raises(AblateError, match=r"data\.cache: the presized images need .* or to off"):
            look_and_keep(items, [P24], required=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free + 1_000_000))
    agree(items, look_and_keep(items, [P24], required=True)[1], P24)


def test_no_room_is_known_for_images_that_nobody_has_looked_at(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
):
    needed = sum(Image.open(pathed(item)).size != (0, 0) for item in items) * 24 * 24 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=cache.SPARE + needed))
    with pytest.raises(AblateError, match="the presized images need"):
        look_and_keep(items, [P24], required=True)


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("after", [0, 1, 5, 9, 17])
def test_a_disk_that_fills_up_while_building(
    after: int, items: list[Item], monkeypatch: pytest.MonkeyPatch, decodes: Count
):
    add, added = PackWriter.add, []

    def filling(self: PackWriter, *given: Any) -> None:
        added.append(1)
        add(self, *given)
        if len(added) > after and self.file is not None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PackWriter, "add", filling)
        with pytest.raises(AblateError) as caught:
            look_and_keep(items, [P24, P30])
    assert str(caught.value).startswith(f"{place.root()}: the disk is full; free some of it")
    assert "data.cache to off" in str(caught.value)
    assert leftovers() == []
    assert [name[:-5] for name in files("[0-9]*.pack")] == [name[:-6] for name in files("[0-9]*.index")]
    sealed = files("[0-9]*.pack")
    _, presized = look_and_keep(items, [P24, P30])
    assert set(sealed) < set(files("[0-9]*.pack"))
    agree(items, presized, P24, P30)
    assert (n_rows(P24), n_rows(P30)) == (24, 24)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_cache_that_stops_being_writable_is_named(
    code: int, items: list[Item], monkeypatch: pytest.MonkeyPatch
):
    def refused(*given: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(PackWriter, "add", refused)
        with pytest.raises(AblateError, match=r"presized: cannot be written .* set ABLATE_CACHE"):
            look_and_keep(items, [P24])
    assert leftovers() == []


def test_a_folder_that_cannot_be_made_is_named(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "presized").write_text("a file")
    with pytest.raises(AblateError) as caught:
        look_and_keep(items, [P24])
    assert str(caught.value).startswith(f"{place.root() / '24-raw'}: cannot be written (")
    assert str(caught.value).endswith("set ABLATE_CACHE to a folder that can, or data.cache to off.")


def test_a_cache_of_a_newer_version_is_left_alone(items: list[Item]):
    look_and_keep(items, [P24])
    version = place.root() / "VERSION.json"
    version.write_text(json.dumps({"version": place.VERSION + 1}))
    before = files()
    with pytest.raises(AblateError, match=r"presized: was written by a newer ablate; upgrade ablate, or set"):
        look_and_keep(items, [P30])
    assert [name for name in files() if name not in before] in ([], [P30.name])


@pytest.mark.parametrize("text", [json.dumps({"version": 0}), "{}", "garbage", None])
def test_a_cache_of_an_older_version_or_of_none_is_built_anew(
    text: str | None, items: list[Item], decodes: Count
):
    look_and_keep(items, [P24, P30])
    version = place.root() / "VERSION.json"
    version.unlink() if text is None else version.write_text(text)
    for path in place.root().glob("*/*.pack"):  # of which nothing may be taken
        path.write_bytes(bytes(path.stat().st_size))
    decodes()
    _, presized = look_and_keep(items, [P24])
    assert decodes() == 24
    agree(items, presized, P24)
    assert json.loads(version.read_text()) == {"version": place.VERSION}
    assert files("30-raw/*.pack") == files("30-raw/*.index") == []


def _damage(path: Path, kind: str, place_: int) -> None:
    data = bytearray(path.read_bytes())
    at = place_ % len(data)
    if kind == "remove":
        path.unlink()
    elif kind == "flip":
        data[at] ^= 1 << place_ % 8
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[:at])
    elif kind == "swap":
        size = 1 + place_ % 40
        other = place_ // 11 % len(data)
        one, two = sorted((at, other))
        size = min(size, two - one, len(data) - two)
        data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
        path.write_bytes(data)


@pytest.mark.parametrize("presize", [P24, Presize(24, 90)], ids=["raw", "jpeg"])
def test_damage_costs_time_and_never_pixels(
    presize: Presize,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Whatever becomes of a pack, an index or a view, before a study or while it runs."""
    items = of(photos)[:9]
    monkeypatch.setattr(cache, "PackWriter", partial(PackWriter, limit=6000))
    _, presized = look_and_keep(items, [presize])
    expected = {item.number: presize(decode(item.image)) for item in items}
    folder, whole = presized[24].folder, tmp_path / "whole"
    shutil.copytree(folder, whole)
    kinds = {suffix: sorted(folder.rglob(f"*.{suffix}")) for suffix in ("pack", "index", "rows")}
    assert len(kinds["pack"]) > 1 or presize.quality

    def right(kept: Presized) -> None:
        pixels = Pixels(presize, kept)
        assert all(np.array_equal(pixels(item), expected[item.number]) for item in items)

    @settings(max_examples=150)
    @given(st.sampled_from(sorted(kinds)), st.sampled_from(["flip", "cut", "swap", "remove"]), LARGE)
    def check(suffix: str, kind: str, number: int):
        _damage(kinds[suffix][number % len(kinds[suffix])], kind, number)
        try:
            if suffix == "pack":
                right(Presized(folder, presize, presized[24].path))
            right(look_and_keep(items, [presize])[1][24])
        finally:
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)

    check()
    assert all(look_and_keep(items, [presize])[1][24][item.number] is not None for item in items)


BUILD = """
import os, shutil, signal, sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from ablate import sealed
from ablate.data import cache, packs, place
from ablate.data.items import load_items
from ablate.data.presize import Presize
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

root, shorter, what, after = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
cache.PackWriter = partial(packs.PackWriter, limit=10_000)
calls = 0

def deadly(function):
    def called(*given):
        global calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given)
    return called

if what == "add":
    packs.PackWriter.add = deadly(packs.PackWriter.add)
elif what == "sync":
    sealed.sync = deadly(sealed.sync)
elif what == "rename":
    Path.rename = deadly(Path.rename)
elif what == "full":
    shutil.disk_usage = lambda path: SimpleNamespace(free=10**12)  # a quota is not seen there
items = load_items(Data.model_validate({"root": root})).items
try:
    print("ready", flush=True)
    sys.stdin.readline()
    cache.look_and_keep(items, [Presize(shorter)], note=print)
except AblateError as error:
    print("AblateError:", error)
left = [path.name for path in place.root().rglob(".*") if path.name != ".lock"]
print("left:", left, "packs:", len(list(place.root().rglob("*.pack"))))
"""


def building(root: Path, shorter: int, what: str = "", after: int = 0, *before: str) -> subprocess.Popen:
    command = [*before, sys.executable, "-c", BUILD, str(root), str(shorter), what, str(after)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def ready_made(photos: Path) -> Path:
    """Photos that are as small as they are presized, which spares a subprocess from importing torch."""
    for path in [*photos.rglob("*.jpg"), *photos.rglob("*.png")]:
        image = Image.open(path)
        image.resize((24, 30) if image.height > image.width else (30, 24)).save(path)
    return photos


KILLS = [("add", 13), ("sync", 1), ("sync", 6), ("rename", 2), ("rename", 1)]


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize(("what", "after"), KILLS)
@pytest.mark.parametrize("known", [False, True])
def test_one_that_is_killed_goes_on_from_what_was_sealed(
    what: str, after: int, known: bool, ready_made: Path, decodes: Count
):
    if known:
        inspect.inspect(of(ready_made))
    killed = building(ready_made, 24, what, after)
    killed.communicate("go\n")
    assert killed.returncode == -signal.SIGKILL
    whole = [name[:-6] for name in files("[0-9]*.index")]
    sealed = {name: (place.root() / f"{name}.pack").read_bytes() for name in whole}
    assert len(leftovers()) + len(files("[0-9]*.pack")) > len(whole)  # there was something half-written
    items = of(ready_made)
    _, presized = look_and_keep(items, [P24])
    agree(items, presized, P24)
    assert {name: (place.root() / f"{name}.pack").read_bytes() for name in whole} == sealed
    assert leftovers() == []
    assert n_rows(P24) == 24
    assert [name[:-5] for name in files("[0-9]*.pack")] == [name[:-6] for name in files("[0-9]*.index")]
    decodes()
    look_and_keep(items, [P24])
    assert decodes() == 0


@pytest.mark.usefixtures("small_packs")
def test_what_was_sealed_and_remembered_is_not_decoded_again(
    ready_made: Path, decodes: Count, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspect, "REMEMBERED", 4)
    items, add, added = of(ready_made), PackWriter.add, []

    def stopped(self: PackWriter, *given: Any) -> None:
        added.append(1)
        if len(added) == 22:
            raise KeyboardInterrupt
        add(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(PackWriter, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            look_and_keep(items, [P24])
    there = n_rows(P24)
    assert there >= 15
    decodes()
    _, presized = look_and_keep(items, [P24])
    assert 24 - there <= decodes() <= 24 - there + 4
    agree(items, presized, P24)


def test_two_processes_that_build_at_once(photos: Path):
    processes = [building(photos, 24) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    told = [process.communicate("go\n")[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all("left: []" in text for text in told)
    assert n_rows(P24) == 24
    agree(of(photos), look_and_keep(of(photos), [P24])[1], P24)


def test_one_that_waits_says_so_and_finds_the_work_done(items: list[Item], decodes: Count):
    from threading import Thread

    look_and_keep(items[:1], [P30])
    waiting, found = [], []

    def other() -> None:
        found.append(look_and_keep(items, [P24], note=waiting.append))

    thread = Thread(target=other)
    with place.alone(lambda text: None):
        thread.start()
        while not waiting:
            thread.join(0.01)
            assert thread.is_alive()
    thread.join()
    assert waiting == ["waiting for another process that presizes images"]
    agree(items, found[0][1], P24)


FULL = """
mkdir -p "$ABLATE_CACHE" && mount -t tmpfs -o size=$1k tmpfs "$ABLATE_CACHE" || exit 99
shift
"$@"
"""


@needs_mounts
@pytest.mark.parametrize("kilobytes", [44, 60, 72])
def test_a_disk_that_is_really_full_of_presized_images(kilobytes: int, ready_made: Path):
    whole = building(ready_made, 24, "full", 0, "unshare", "-rm", "sh", "-c", FULL, "sh", str(kilobytes))
    told, _ = whole.communicate("go\n")
    assert whole.returncode == 0, told
    assert "AblateError: " in told
    assert "the disk is full" in told or "cannot be written" in told
    assert "left: []" in told


def test_a_photo_that_is_replaced_during_a_study_keeps_the_pixels_that_were_looked_at(items: list[Item]):
    _, presized = look_and_keep(items, [P24])
    before = np.array(Pixels(P24, presized[24])(items[0]))
    buffer = BytesIO()
    Image.new("RGB", (70, 60)).save(buffer, "PNG")
    pathed(items[0]).write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(Pixels(P24, presized[24])(items[0]), before)
