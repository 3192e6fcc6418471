"""Tar shards as WebDataset writes them: which members belong together, where each image lies.

The conventions are those of the library `webdataset` (`tariterators.base_plus_ext` and `group_by_keys`),
which itself is not imported: it reads tars from front to back and brings torch along; planning needs neither.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, BinaryIO

from ablate.data.images import SUFFIXES
from ablate.data.shards import Fields, Row
from ablate.errors import AblateError

_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstandard"}
_BLOCK = tarfile.BLOCKSIZE


@dataclass
class _Sample:
    """The members of a tar that share a key, by extension: where each begins and how long it is."""

    name: str
    key: str
    file: BinaryIO
    places: dict[str, tuple[int, int]]
    fields: dict[str, Any] = field(default_factory=dict)
    """What stands in its .json."""

    def text(self, extension: str) -> str:
        offset, length = self.places[extension]
        content = os.pread(self.file.fileno(), length, offset)
        try:
            return content.decode().strip()
        except UnicodeDecodeError:
            raise AblateError(
                f"{self.name}: {self.key}.{extension} is no text in UTF-8; write it as such."
            ) from None

    def cell(self, name: str) -> str:
        """A value by name: the text of the member with that extension, else a field of .json; else empty."""
        if name in self.places:
            return self.text(name)
        value = self.fields.get(name)
        if isinstance(value, dict | list):
            raise AblateError(f"{self.name}: field {name!r} of {self.key}.json is no single value.")
        return "" if value is None else str(value).strip()


def tar_rows(file: BinaryIO, name: str, fields: Fields) -> Iterator[Row]:
    """What a tar has of each image, in its order.

    Args:
        file: Open at its beginning.
        name: What to call it in errors.
        fields: What to read; `label` as a label also means `.cls`, `image` as an image any of its formats.

    Raises:
        AblateError: It is compressed, damaged or cut off, or an image or what is asked for is missing.
    """
    if kind := _COMPRESSED.get(file.read(2)):
        raise AblateError(f"{name}: is compressed ({kind}), so images cannot be read alone; unpack it.")
    file.seek(0)
    for sample in _samples(file, name):
        image = _image(sample, fields.image)
        labels = ("cls", "label") if fields.label == "label" else (fields.label,)
        if "json" in sample.places:
            sample.fields = _json(sample)
        label = next(filter(None, map(sample.cell, labels)), "")
        if image is None:
            if label:
                there = ", ".join(sample.places)
                raise AblateError(
                    f"{name}: {sample.key} has a label but no image, only {there}; add one or drop it."
                )
            continue
        if not label:
            raise AblateError(
                f"{name}: {sample.key} has no label; put {sample.key}.{labels[0]} beside the image, or "
                f"{sample.key}.json with {fields.label!r} in it, or drop the image."
            )
        id_ = _filled(sample, fields.id) if fields.id else sample.key
        yield Row(id_, *sample.places[image], label, tuple(_filled(sample, other) for other in fields.others))


def _samples(file: BinaryIO, name: str) -> Iterator[_Sample]:
    """The members that follow each other and share a key."""
    for key, members in groupby(_members(file, name), key=lambda member: member[0]):
        places: dict[str, tuple[int, int]] = {}
        for _, extension, offset, length in members:
            if extension in places:
                raise AblateError(f"{name}: {key}.{extension} stands twice in the shard; keys must differ.")
            places[extension] = (offset, length)
        yield _Sample(name, key, file, places)


def _members(file: BinaryIO, name: str) -> Iterator[tuple[str, str, int, int]]:
    """Key, extension, offset and length of every file in a tar."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep millions
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                match = _KEY.fullmatch(member.name)
                if match and member.isreg() and not _META.match(member.name):
                    if member.issparse():
                        raise AblateError(
                            f"{name}: {member.name} is stored with holes; write the shard without --sparse."
                        )
                    yield match[1], match[2].lower(), member.offset_data, member.size
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise AblateError(f"{name}: is damaged or no tar ({error}); write or fetch it again.") from None
    _require_end(file, end, name)


def _require_end(file: BinaryIO, end: int, name: str) -> None:
    """Python's tarfile takes a damaged header, or the end of the file, for the end of the tar."""
    file.seek(end)
    mark = file.read(_BLOCK)
    if len(mark) < _BLOCK:
        raise AblateError(f"{name}: is cut off, it lacks the mark of its end; write or fetch it again.")
    while mark:
        if mark.strip(b"\0"):
            raise AblateError(
                f"{name}: is damaged, or one of several tars in one file, from byte {end}; write it again."
            )
        mark = file.read(1 << 20)


def _image(sample: _Sample, wanted: str) -> str | None:
    """The extension of a sample's image."""
    if wanted != "image":
        return wanted if wanted in sample.places else None
    images = [extension for extension in sample.places if f".{extension.rpartition('.')[2]}" in SUFFIXES]
    if len(images) > 1:
        raise AblateError(
            f"{sample.name}: {sample.key} has several images, {' and '.join(images)}; choose one, as in "
            f"data.image: {{column: {images[0]}}}."
        )
    return images[0] if images else None


def _json(sample: _Sample) -> dict[str, Any]:
    try:
        values = json.loads(sample.text("json"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise AblateError(f"{sample.name}: {sample.key}.json is no JSON ({error}); mend it.") from None
    if not isinstance(values, dict):
        raise AblateError(f"{sample.name}: {sample.key}.json is no mapping of names to values; mend it.")
    return values


def _filled(sample: _Sample, name: str) -> str:
    value = sample.cell(name)
    if not value:
        there = ", ".join([*sample.places, *sample.fields])
        raise AblateError(
            f"{sample.name}: {sample.key} has no {name!r}, only {there}; add it or name another field."
        )
    return value
