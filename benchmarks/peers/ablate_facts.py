"""What a rate does not tell: memory, opening and quality. Run by `pipeline.py --facts`.

Memory: of a process that goes through an epoch, the pages that nobody else could share, as Linux counts them
(`Private_Dirty`): not the code of libraries, nor the memory-mapped cache, which are pages of files. Beside it
what the same process holds after its imports. Once with the photos, once with many small images, so that what
grows with the data set's size shows.

Opening: 1.58 million items in 100 TFRecord shards, which are made here and have been indexed before; and the
index of as many presized images, without the pixels.

Quality: PSNR of the presized photos against Pillow's antialiased resize of the original to the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ITEMS = 1_580_000


def private_bytes() -> int:
    """The pages that this process has written to and shares with nobody."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(row.split()[1]) for row in rows if row.startswith("Private_Dirty:"))


def one_epoch(photos: Path, work: Path, repeats: int, size: int) -> dict[str, int]:
    """The private bytes of this process after its imports, with its loaders, and at most in an epoch."""
    import ablate_pipeline

    from ablate import devices

    devices.load("cpu").start(2, False)
    imported = private_bytes()
    root = ablate_pipeline.table(sorted(photos.glob("*.jpg")), work, repeats, False)
    recipe = ablate_pipeline.recipe(root, "raw", 64).override({"size": size // 2, "presize": size})
    loader = recipe.dataloaders().train
    ready = highest = private_bytes()
    for number, _ in enumerate(loader):
        if number % 20 == 5:
            highest = max(highest, private_bytes())
    return {"imported": imported, "ready": ready, "highest": highest}


def second_time(photos: Path, work: Path, *part: object) -> dict[str, Any]:
    """A part in a process of its own, when what it caches is there."""
    command = [sys.executable, "-W", "ignore", __file__, "--photos", str(photos), "--work", str(work)]
    environment = os.environ | {"ABLATE_CACHE": str(work / "cache")}
    for _ in range(2):
        done = subprocess.run(
            [*command, *map(str, part)], check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    return json.loads(done.stdout.splitlines()[-1])


def many_small(folder: Path, count: int) -> Path:
    """So many JPEGs of 32 × 32 pixels, no two alike."""
    import simplejpeg

    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(count):
        pixels = np.ascontiguousarray(noise.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1))
        (folder / f"{number:07d}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=90))
    return folder


def write_shards(folder: Path) -> None:
    """100 TFRecords with 1.58 million examples, whose images are four bytes long."""
    from crc32c import crc32c

    def message(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([8 * number + 2, len(content)]) + content

    def feature(name: str, number: int, value: bytes) -> bytes:
        return message(1, message(1, name.encode()) + message(2, message(number, value)))

    def masked(content: bytes) -> bytes:
        crc = crc32c(content)
        return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

    folder.mkdir()
    image = feature("image", 1, message(1, b"\xff\xd8\xff\xd9"))
    for shard in range(100):
        with (folder / f"train-{shard:03d}.tfrec").open("wb") as out:
            for number in range(shard, ITEMS, 100):
                id_ = feature("image_name", 1, message(1, f"{number:016x}".encode()))
                label = feature("label", 3, message(1, bytes([number % 100])))
                example = message(1, image + id_ + label)
                length = len(example).to_bytes(8, "little")
                out.write(length + masked(length) + example + masked(example))


def load_shards(folder: Path) -> dict[str, float]:
    """Seconds to open the items of those shards, and the private bytes that they take."""
    import ablate.data.sharded  # noqa: F401  imports must not be timed
    from ablate.data.items import load_items
    from ablate.recipe.data_schema import Data

    before, began = private_bytes(), time.perf_counter()
    items = load_items(Data(root=str(folder), shards="train-*.tfrec"))
    spent = time.perf_counter() - began
    assert len(items.items) == ITEMS
    return {"seconds": spent, "bytes": private_bytes() - before}


def find_presized(folder: Path) -> dict[str, float]:
    """Seconds to find 1.58 million images in a cache, as a study does, and to open them, as a stage does."""
    from ablate.data.packs import ROW, Presized, index_path, lookup, pack_path, read_rows
    from ablate.data.presize import Presize

    folder.mkdir()
    length = 460 * 613 * 3
    for number, start in enumerate(range(0, ITEMS, 316), 1):  # as many as a pack of 256 MiB has
        here = min(316, ITEMS - start)
        rows = np.zeros(here, ROW)
        rows["content"] = np.frombuffer(np.random.default_rng(number).bytes(16 * here), "V16")
        rows["pack"], rows["height"], rows["width"], rows["length"] = number, 460, 613, length
        rows["offset"] = np.arange(here) * length
        rows.tofile(index_path(folder, number))
        with pack_path(folder, number).open("wb") as pack:
            pack.truncate(here * length)  # no pixels, and no room on the disk
    contents = [bytes(content).hex() for content in read_rows(folder)["content"]]
    began = time.perf_counter()
    rows = lookup(read_rows(folder), contents)
    found = time.perf_counter() - began
    path = folder / "view.rows"
    rows.tofile(path)
    began = time.perf_counter()
    presized = Presized(folder, Presize(460), path)
    opened = time.perf_counter() - began
    assert len(presized) == ITEMS
    return {"found": found, "opened": opened}


def psnr(photos: Path, quality: int | None) -> tuple[float, float]:
    """The least and the mean PSNR in decibels over the photos, against Pillow's bilinear resize."""
    from PIL import Image

    from ablate.data.images import decode
    from ablate.data.presize import Presize

    found = []
    for path in sorted(photos.glob("*.jpg")):
        ours = Presize(460, quality)(decode(path, path.name))
        with Image.open(path) as photo:
            size = (ours.shape[1], ours.shape[0])
            theirs = np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BILINEAR))
        error = np.mean((ours.astype(np.float64) - theirs) ** 2)
        found.append(10 * np.log10(255**2 / max(error, 1e-10)))
    return min(found), sum(found) / len(found)


def megabytes(memory: dict[str, Any]) -> str:
    return " | ".join(f"{memory[name] / 1e6:.0f}" for name in ("imported", "ready", "highest"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--epoch", type=int, nargs=2, help="Only one epoch here: repeats, presize.")
    parser.add_argument("--shards", type=Path, help="Only open these shards here.")
    given = parser.parse_args()
    if given.epoch:
        print(json.dumps(one_epoch(given.photos, given.work, *given.epoch)))
        return
    if given.shards:
        print(json.dumps(load_shards(given.shards)))
        return
    print("| presized to 460 | least PSNR, dB | mean | must reach |\n| --- | ---: | ---: | ---: |")
    for title, quality in (("raw", None), ("JPEG 95", 95)):
        print("| {} | {:.1f} | {:.1f} | 40 |".format(title, *psnr(given.photos, quality)))
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        write_shards(work / "shards")
        shards = second_time(given.photos, work, "--shards", work / "shards")
        times = find_presized(work / "index")
        print("\n| 1.58 million items | s | must reach |\n| --- | ---: | ---: |")
        print(f"| open them from shards, {shards['bytes'] / 1e6:.0f} MB | {shards['seconds']:.2f} | 2 |")
        print(f"| a study finds them in the cache | {times['found']:.2f} | |")
        print(f"| a stage opens those that it found | {times['opened']:.3f} | 2 |")
        print("\n| private memory, MB | after imports | with loaders | at most | must reach |")
        print("| --- | ---: | ---: | ---: | ---: |")
        memory = second_time(given.photos, work, "--epoch", 8, 460)
        print(f"| the photos, 8 times each | {megabytes(memory)} | 500 |")
        memory = second_time(many_small(work / "small", given.many), work, "--epoch", 1, 32)
        print(f"| {given.many:,} small images | {megabytes(memory)} | 500 |")


if __name__ == "__main__":
    main()
