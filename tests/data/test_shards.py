from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from ablate.data.shards import Member, Shard, find_shards, matching, patterns_of
from ablate.errors import AblateError


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"this is {name}".encode())
    return folder


def names(shards: list[Shard], root: Path) -> list[str]:
    return [shard.place.removeprefix(f"{root}/") for shard in shards]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("a-0.tar", ["a-0.tar"]),
        ("a-*.tar", ["a-0.tar", "a-1.tar", "a-10.tar"]),
        ("a-{0..1}.tar", ["a-0.tar", "a-1.tar"]),
        ("a-{10,0}.tar", ["a-10.tar", "a-0.tar"]),
        ("*/[xy].tar", ["deep/x.tar"]),
        (["b.tar", "a-0.tar", "*.tar"], ["b.tar", "a-0.tar", "a-1.tar", "a-10.tar"]),
    ],
)
def test_shards_by_name_pattern_and_range(patterns: str | list[str], expected: list[str], tmp_path: Path):
    write(tmp_path, "a-0.tar", "a-1.tar", "a-10.tar", "b.tar", "deep/x.tar")
    (tmp_path / "folder.tar").mkdir()
    assert names(find_shards(str(tmp_path), patterns), tmp_path) == expected


def test_a_name_with_the_marks_of_a_pattern(tmp_path: Path):
    write(tmp_path, "a[1].tar", "a1.tar")
    assert names(find_shards(str(tmp_path), "a[1].tar"), tmp_path) == ["a[1].tar"]


def test_ranges_are_those_of_bash():
    assert patterns_of("t-{008..011}.tar") == [f"t-{i:03d}.tar" for i in range(8, 12)]
    assert patterns_of(["{a,b}{1,2}", "c"]) == ["a1", "a2", "b1", "b2", "c"]
    assert patterns_of(None) == []


def test_urls_and_roots_that_are_urls():
    files = fsspec.filesystem("memory")
    for name in ("t-0.tar", "t-1.tar", "v.tar"):
        files.pipe(f"/shards/{name}", name.encode())
    expected = ["memory:///shards/t-0.tar", "memory:///shards/t-1.tar"]
    for root, pattern in ((None, "memory://shards/t-*.tar"), ("memory://shards/", "t-*.tar")):
        found = find_shards(root, pattern)
        assert [shard.place.replace(":////", ":///") for shard in found] == expected
        assert [shard.size for shard in found] == [7, 7]
        assert all(shard.is_remote for shard in found)
    assert len(find_shards("memory://shards", "t-{0..1}.tar")) == 2
    with pytest.raises(AblateError, match=r"memory://shards/t-7.tar: there is no such shard"):
        find_shards("memory://shards", "t-7.tar")
    with pytest.raises(AblateError, match=r"no shard matches memory://shards/x-\*"):
        find_shards("memory://shards", "x-*")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nosuch://bucket/a.tar", "cannot be reached"),
        ("s3://bucket/a.tar", r"s3 needs another package; install it with `pip install 'fsspec\[s3\]'`"),
        ("http://127.0.0.1:9/a.tar", "cannot be reached"),
    ],
)
def test_urls_that_cannot_be_reached(url: str, expected: str):
    with pytest.raises(AblateError, match=f"^{url}: {expected}.*\\.$") as caught:
        find_shards(None, url)
    assert "\n" not in str(caught.value)


def test_which_shards_a_side_names():
    shards = [Shard(place, "", 1) for place in ("/d/train/0.tar", "/d/valid/0.tar", "s3://b/valid-1.tar")]
    assert matching(shards, "valid/*", "f") == [False, True, False]
    assert matching(shards, ["valid-{1..1}.tar", "/d/train/*"], "f") == [
        True,
        False,
        True,
    ]
    assert matching(shards, "*0.tar", "f") == [True, True, False]
    assert matching(shards, "s3://b/*", "f") == [False, False, True]
    with pytest.raises(AblateError, match=r"f: none of the 3 shards matches 0, such as /d/train/0.tar"):
        matching(shards, "0", "f")


def test_a_member_is_its_bytes(tmp_path: Path):
    write(tmp_path, "a.tar")
    (shard,) = find_shards(str(tmp_path), "a.tar")
    assert Member(shard, 5, 2).read() == b"is"
    assert Member(shard, 0, 0).read() == b""
    assert str(Member(shard, 5, 2)) == f"{tmp_path}/a.tar#5"
    with pytest.raises(AblateError, match=r"a\.tar#8: the shard ends within this image"):
        Member(shard, 8, 100).read()
