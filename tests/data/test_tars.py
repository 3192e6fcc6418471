from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from shard_writers import picture, samples, write_tar

from ablate.data.shards import Fields, Row
from ablate.data.tars import tar_rows
from ablate.errors import AblateError

FIELDS = Fields("image", "label", None, ())
Members = list[tuple[str, bytes]]


def write(path: Path, members: Members, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar as Python's own library writes it."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def rows(path: Path, fields: Fields = FIELDS) -> list[Row]:
    with path.open("rb") as file:
        return list(tar_rows(file, path.name, fields))


def images(path: Path, fields: Fields = FIELDS) -> list[bytes]:
    content = path.read_bytes()
    return [content[row.offset : row.offset + row.length] for row in rows(path, fields)]


def problem(path: Path, fields: Fields = FIELDS) -> str:
    with pytest.raises(AblateError) as caught:
        rows(path, fields)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def pairs(*names: str) -> Members:
    """An image and its class for each name."""
    both = [[(f"{name}.jpg", picture(i)), (f"{name}.cls", str(i).encode())] for i, name in enumerate(names)]
    return [member for pair in both for member in pair]


def test_what_webdataset_reads_is_what_is_found(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", samples(0, 12))
    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    found = rows(path, Fields("image", "label", None, ("patient", "held")))
    assert [row.id for row in found] == [sample["__key__"] for sample in read]
    assert images(path) == [sample["jpg"] for sample in read]
    fields = [json.loads(sample["json"]) for sample in read]
    assert [row.label for row in found] == [values["label"] for values in fields]
    assert [row.others for row in found] == [(v["patient"], str(v["held"])) for v in fields]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_keys_are_those_of_webdataset(format: int, tmp_path: Path):
    names = ["a", "x/b", "x/y.d/c", "ünï/d", "e" * 90, "x/" + "f" * 60 + "/" + "g" * 60]
    path = write(tmp_path / "a.tar", pairs(*names), format)
    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [row.id for row in rows(path)] == [sample["__key__"] for sample in read] == names
    assert images(path) == [sample["jpg"] for sample in read]


def test_what_is_no_sample_is_passed_over(tmp_path: Path):
    extra = [
        ("README", b"no extension"),
        ("notes.txt", b"no image"),
        ("__meta__/a.jpg", b"meta"),
        (".hidden", b""),
    ]
    path = write(tmp_path / "a.tar", [*extra, *pairs("a", "b")])
    with tarfile.open(path, "a") as tar:
        folder, link = tarfile.TarInfo("folder.jpg"), tarfile.TarInfo("link.jpg")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "a.jpg"
        tar.addfile(folder)
        tar.addfile(link)
    assert [row.id for row in rows(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("members", "label", "expected"),
    [
        ({"cls": b" 7\n"}, "label", "7"),
        ({"cls": b"chien noir"}, "label", "chien noir"),
        ({"cls": b"7", "json": b'{"label": 8}'}, "label", "7"),
        ({"json": b'{"label": 8}'}, "label", "8"),
        ({"json": b'{"label": null, "dx": "nv"}', "cls": b"1"}, "dx", "nv"),
        ({"txt": b"fox"}, "txt", "fox"),
        ({"CLS": b"3"}, "label", "3"),
    ],
)
def test_where_the_label_stands(members: dict[str, bytes], label: str, expected: str, tmp_path: Path):
    path = write(tmp_path / "a.tar", [("a.jpg", picture(0)), *((f"a.{e}", c) for e, c in members.items())])
    assert [row.label for row in rows(path, FIELDS._replace(label=label))] == [expected]


def test_an_image_of_several_and_a_name_of_its_own(tmp_path: Path):
    fields = b'{"label": "x", "name": "n17"}'
    members = [("a.left.png", picture(0, "png")), ("a.right.png", picture(1, "png")), ("a.json", fields)]
    path = write(tmp_path / "a.tar", members)
    assert "a has several images, left.png and right.png; choose one" in problem(path)
    right = Fields("right.png", "label", "name", ())
    assert images(path, right) == [picture(1, "png")]
    assert [row.id for row in rows(path, right)] == ["n17"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("a.jpg", b"x")], "a has no label; put a.cls beside the image"),
        ([("a.jpg", b"x"), ("a.cls", b" \n")], "a has no label"),
        ([("a.jpg", b"x"), ("b.jpg", b"x"), ("a.cls", b"1"), ("b.cls", b"2")], "a has no label"),
        ([*pairs("a"), ("b.cls", b"1")], "b has a label but no image, only cls"),
        ([*pairs("a"), ("b.json", b'{"label": 1}'), ("b.heic", b"x")], "b has a label but no image"),
        ([("a.jpg", b"x"), ("a.jpg", b"y"), ("a.cls", b"1")], "a.jpg stands twice"),
        ([("a.jpg", b"x"), ("a.cls", b"\xff\xfe")], "a.cls is no text in UTF-8"),
        ([("a.jpg", b"x"), ("a.json", b"{")], "a.json is no JSON"),
        ([("a.jpg", b"x"), ("a.json", b"[1]")], "a.json is no mapping"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": [1]}')], "field 'label' of a.json is no single value"),
    ],
)
def test_samples_that_cannot_be_used(members: Members, expected: str, tmp_path: Path):
    assert expected in problem(write(tmp_path / "a.tar", members))


def test_a_field_that_is_asked_for_and_missing(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", samples(0, 2))
    message = problem(path, FIELDS._replace(others=("lesion",)))
    assert "photos/0000 has no 'lesion', only jpg, json, label, patient, held" in message


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, lzma.compress])
def test_a_compressed_tar_is_refused(pack: Any, tmp_path: Path):
    path = write(tmp_path / "a.tar", pairs("a", "b"))
    path.write_bytes(pack(path.read_bytes()))
    assert "is compressed" in problem(path)


def test_a_tar_that_is_cut_off_anywhere_is_refused(tmp_path: Path):
    whole = write(tmp_path / "a.tar", pairs("a", "b", "c")).read_bytes()
    end = len(whole.rstrip(b"\0"))
    path = tmp_path / "cut.tar"
    blocks = range(0, end + 512, 512)
    for length in [*blocks, *(block + 100 for block in blocks if block + 100 < end)]:
        path.write_bytes(whole[:length])
        assert "cut off" in (message := problem(path)) or "damaged" in message


@pytest.mark.parametrize("place", [0, 100, 150, 257])
def test_a_damaged_header_is_no_silent_end(place: int, tmp_path: Path):
    path = write(tmp_path / "a.tar", pairs("a", "b", "c"))
    content = bytearray(path.read_bytes())
    second = content.index(b"b.jpg")
    content[second + place] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in problem(path)


def test_tars_one_after_the_other_in_a_file_are_refused(tmp_path: Path):
    one, two = (write(tmp_path / f"{name}.tar", pairs(name)).read_bytes() for name in "ab")
    (tmp_path / "both.tar").write_bytes(one + two)
    assert "several tars in one file" in problem(tmp_path / "both.tar")


def test_what_is_no_tar(tmp_path: Path):
    for content in (b"", b"\0" * 100, b"text" * 1000):
        (tmp_path / "a.tar").write_bytes(content)
        assert "damaged or no tar" in problem(tmp_path / "a.tar")
