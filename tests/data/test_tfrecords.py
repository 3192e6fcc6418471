from __future__ import annotations

import gzip
import struct
from base64 import b64decode
from pathlib import Path

import pytest
from shard_writers import Record, picture, records, write_tfrecord
from tfrecord import TFRecordWriter
from tfrecord.reader import tfrecord_loader

from ablate.data.shards import Fields, Row
from ablate.data.tfrecords import masked_crc, tfrecord_rows
from ablate.errors import AblateError

FIELDS = Fields("image", "label", None, ())


def rows(path: Path, fields: Fields = FIELDS) -> list[Row]:
    with path.open("rb") as file:
        return list(tfrecord_rows(file, path.name, fields))


def images(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[row.offset : row.offset + row.length] for row in rows(path)]


def problem(path: Path, fields: Fields = FIELDS) -> str:
    with pytest.raises(AblateError) as caught:
        rows(path, fields)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_what_another_library_reads_is_what_is_found(tmp_path: Path):
    path = write_tfrecord(tmp_path / "a.tfrec", records(0, 12))
    read = list(tfrecord_loader(str(path), None))
    found = rows(path, FIELDS._replace(others=("patient", "held", "age")))
    assert images(path) == [record["image"] for record in read] == [picture(i) for i in range(12)]
    assert [row.id for row in found] == [record["image_name"].decode() for record in read]
    assert [row.label for row in found] == [str(record["target"][0]) for record in read]
    others = [(r["patient"].decode(), str(r["held"][0]), str(r["age"][0])) for r in read]
    assert [row.others for row in found] == others


def test_what_tensorflow_writes_is_read(tmp_path: Path):
    """Two records by `tf.io.TFRecordWriter` of TensorFlow 2.21."""
    written = (
        "WQAAAAAAAACKHWW2ClcKDwoDYWdlEggSBgoEzczMPQoUCgppbWFnZV9uYW1lEgYKBAoCbjAKFAoFaW1hZ2USCwoJCgdwaXhlbHMw"
        "ChgKBnRhcmdldBIOGgwKCv///////////wE9uQXjUAAAAAAAAACUD5uCCk4KDwoDYWdlEggSBgoEzczMPQoUCgppbWFnZV9uYW1l"
        "EgYKBAoCbjEKFAoFaW1hZ2USCwoJCgdwaXhlbHMxCg8KBnRhcmdldBIFGgMKAQDpp9CE"
    )
    path = tmp_path / "a.tfrec"
    path.write_bytes(b64decode(written))
    found = rows(path, FIELDS._replace(others=("age",)))
    assert [(row.id, row.label, row.others) for row in found] == [
        ("n0", "-1", ("0.1",)),
        ("n1", "0", ("0.1",)),
    ]
    assert images(path) == [b"pixels0", b"pixels1"]


def test_the_checksum_is_that_of_tensorflow():
    # the CRC-32C of RFC 3720, B.4: 32 zeros give 8A9136AA; the mask is that of TensorFlow's documentation
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
    for content in (b"", b"123456789", picture(0)):
        assert struct.pack("<I", masked_crc(content)) == TFRecordWriter.masked_crc(content)


@pytest.mark.parametrize(
    ("features", "label", "expected"),
    [
        ({"label": (4, "int"), "target": (5, "int")}, "label", "4"),
        ({"target": (5, "int")}, "label", "5"),
        ({"class": (b"nv ", "byte"), "label": (1, "int")}, "class", "nv"),
        ({"y": (-3, "int")}, "y", "-3"),
        ({"y": (0.1, "float")}, "y", "0.1"),
    ],
)
def test_where_the_label_stands(features: Record, label: str, expected: str, tmp_path: Path):
    path = write_tfrecord(tmp_path / "a.tfrec", [{"image": (picture(0), "byte"), **features}])
    assert [row.label for row in rows(path, FIELDS._replace(label=label))] == [expected]


def test_names_of_images(tmp_path: Path):
    plain = [{"image": (picture(i), "byte"), "label": (i, "int"), "uid": (i + 7, "int")} for i in range(2)]
    path = write_tfrecord(tmp_path / "a.tfrec", plain)
    assert [row.id for row in rows(path)] == ["a.tfrec:0", "a.tfrec:1"]
    assert [row.id for row in rows(path, FIELDS._replace(id="uid"))] == ["7", "8"]
    assert "has no feature 'name'; it has image, label, uid" in problem(path, FIELDS._replace(id="name"))


def test_an_image_is_found_among_look_alikes(tmp_path: Path):
    """A feature before it begins with the same bytes, and the image is in the record twice."""
    image = picture(0)
    features = {
        "a": (image[:200], "byte"),
        "b": (image, "byte"),
        "image": (image, "byte"),
        "label": (1, "int"),
    }
    for given in (features, dict(reversed(features.items()))):
        assert images(write_tfrecord(tmp_path / "a.tfrec", [given, given])) == [image, image]
    empty = {"image": (b"", "byte"), "label": (1, "int")}
    assert images(write_tfrecord(tmp_path / "b.tfrec", [empty])) == [b""]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"image": (b"x", "byte"), "y": (1, "int")}, "has no feature 'label'; it has image, y"),
        ({"img": (b"x", "byte"), "label": (1, "int")}, "has no feature 'image'; it has img, label"),
        ({}, "has no feature 'image'; it has no feature at all"),
        (
            {"image": ([b"x", b"y"], "byte"), "label": (1, "int")},
            "feature 'image' has 2 values; it needs one",
        ),
        ({"image": (b"x", "byte"), "label": ([], "int")}, "feature 'label' has 0 values"),
        ({"image": (3, "int"), "label": (1, "int")}, "feature 'image' is no image file but 3"),
        ({"image": (b"x", "byte"), "label": (b"\xff", "byte")}, "feature 'label' is no text in UTF-8"),
        ({"image": (b"x", "byte"), "label": (b" ", "byte")}, "feature 'label' is empty"),
    ],
)
def test_records_that_cannot_be_used(record: Record, expected: str, tmp_path: Path):
    good: Record = {"image": (b"x", "byte"), "label": (1, "int")}
    path = write_tfrecord(tmp_path / "a.tfrec", [good, record])
    assert f"a.tfrec: record 1: {expected}" in problem(path)


def test_no_bit_can_be_wrong(tmp_path: Path):
    tiny = [{"image": (b"0123456789", "byte"), "label": (i, "int")} for i in range(3)]
    path = write_tfrecord(tmp_path / "a.tfrec", tiny)
    content = path.read_bytes()
    size = len(content) // 3
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert f"record {place // size}" in (message := problem(path))
        assert "checksum" in message


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path):
    tiny = [{"image": (b"0123456789", "byte"), "label": (i, "int")} for i in range(3)]
    path = write_tfrecord(tmp_path / "a.tfrec", tiny)
    content = path.read_bytes()
    size = len(content) // 3
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length % size:  # between two records nothing tells that more were meant
            assert f"is cut off in record {length // size};" in problem(path)
        else:
            assert len(rows(path)) == length // size


def test_what_is_no_tfrecord(tmp_path: Path):
    path = write_tfrecord(tmp_path / "a.tfrec", records(0, 2))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "is compressed (gzip)" in problem(path)
    path.write_bytes(b"text" * 100)
    assert "or no TFRecord" in problem(path)
    other = b"\xff\xff\xff"
    header = struct.pack("<Q", len(other))
    frame = [header, struct.pack("<I", masked_crc(header)), other, struct.pack("<I", masked_crc(other))]
    path.write_bytes(b"".join(frame))
    assert "record 0: is no tf.train.Example" in problem(path)
