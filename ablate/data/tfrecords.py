"""TFRecord shards of `tf.train.Example`s, read without TensorFlow.

Framing and checksums: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. The
messages: tensorflow/core/example/{example,feature}.proto, of which the schema here is the part that is used.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from crc32c import crc32c

from ablate.data.shards import Fields, Row
from ablate.errors import AblateError

_LONGEST = 1 << 31
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_SCHEMA = """
name: "ablate_example.proto" package: "ablate" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".ablate.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type: TYPE_MESSAGE type_name: ".ablate.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".ablate.Int64List" oneof_index: 0 } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED
    type: TYPE_MESSAGE type_name: ".ablate.Features.Entry" }
  nested_type { name: "Entry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".ablate.Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".ablate.Features" } }
"""


def tfrecord_rows(file: BinaryIO, name: str, fields: Fields) -> Iterator[Row]:
    """What a TFRecord file has of each image, in its order; every checksum is verified.

    Args:
        file: Open at its beginning.
        name: What to call it in errors.
        fields: What to read; `label` as a label also means `target`; without an id it is `image_name` if
            there is one, else the file's name and the record's number.

    Raises:
        AblateError: It is damaged or cut off, or a record lacks what is asked for.
    """
    for number, (offset, content) in enumerate(_records(file, name)):
        record = _Record(f"{name}: record {number}", content)
        image = record.image(fields.image)
        yield Row(
            _id(record, fields.id, f"{PurePosixPath(name).name}:{number}"),
            offset + _find(content, image),
            len(image),
            record.text(_label(record, fields.label)),
            tuple(record.text(other) for other in fields.others),
        )


def masked_crc(content: bytes) -> int:
    """The checksum of TFRecords: CRC-32C, rotated and shifted so that it can be stored beside its content."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class _Record:
    """The features of one example.

    Args:
        place: What to call it in errors.
        content: Its bytes.
    """

    def __init__(self, place: str, content: bytes):
        from google.protobuf.message import DecodeError

        self.place = place
        try:
            self.features = _example_type().FromString(content).features.feature
        except DecodeError:
            raise AblateError(f"{place}: is no tf.train.Example; write the shard as such.") from None

    def __contains__(self, name: str) -> bool:
        return name in self.features

    def _value(self, name: str) -> Any:
        if name not in self.features:
            there = ", ".join(sorted(self.features)) or "no feature at all"
            raise AblateError(f"{self.place}: has no feature {name!r}; it has {there}.")
        feature = self.features[name]
        kind = feature.WhichOneof("kind")
        values: Sequence[Any] = getattr(feature, kind).value if kind else []
        if len(values) != 1:
            raise AblateError(f"{self.place}: feature {name!r} has {len(values)} values; it needs one.")
        return np.float32(values[0]) if kind == "float_list" else values[0]

    def image(self, name: str) -> bytes:
        """An image."""
        value = self._value(name)
        if not isinstance(value, bytes):
            raise AblateError(f"{self.place}: feature {name!r} is no image file but {value}.")
        return value

    def text(self, name: str) -> str:
        """A class, a name or another value, as a table would have it."""
        value = self._value(name)
        try:
            text = value.decode() if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError:
            raise AblateError(f"{self.place}: feature {name!r} is no text in UTF-8.") from None
        if not text.strip():
            raise AblateError(f"{self.place}: feature {name!r} is empty; fill it or drop the record.")
        return text.strip()


def _label(record: _Record, wanted: str) -> str:
    """Which feature is the label; Kaggle's are called label or target."""
    is_target = wanted == "label" and "label" not in record and "target" in record
    return "target" if is_target else wanted


def _id(record: _Record, wanted: str | None, fallback: str) -> str:
    if wanted is None and "image_name" not in record:
        return fallback
    return record.text(wanted or "image_name")


def _records(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of every record."""
    number = offset = 0
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise AblateError(f"{name}: is cut off in record {number}; write or fetch it again.")
        length, crc = _HEADER.unpack(header)
        if masked_crc(header[:8]) != crc or length > _LONGEST:
            if header.startswith(b"\x1f\x8b") and not number:
                raise AblateError(f"{name}: is compressed (gzip), so images cannot be read alone; unpack it.")
            other = "" if number else " or no TFRecord (tars need source: webdataset)"
            raise AblateError(
                f"{name}: the checksum of the length of record {number} is wrong, so the file is "
                f"damaged{other}; write or fetch it again."
            )
        content, footer = file.read(length), file.read(_FOOTER.size)
        if len(content) + len(footer) < length + _FOOTER.size:
            raise AblateError(f"{name}: is cut off in record {number}; write or fetch it again.")
        if _FOOTER.unpack(footer)[0] != masked_crc(content):
            raise AblateError(
                f"{name}: the checksum of record {number} is wrong, so it is damaged; write or fetch the "
                "file again."
            )
        yield offset + _HEADER.size, content
        number, offset = number + 1, offset + _HEADER.size + length + _FOOTER.size


def _find(content: bytes, image: bytes) -> int:
    """Where in a record an image lies: protobuf keeps a value as one run of bytes."""
    start = content.index(image[:64])
    while content[start : start + len(image)] != image:
        start = content.index(image[:64], start + 1)
    return start


@functools.cache
def _example_type() -> Any:
    """`tf.train.Example` as a protobuf class, in a pool of its own, apart from TensorFlow's."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ablate.Example"))
