"""What a study of 1.58 million images costs before and beside the images themselves. Run:

    python benchmarks/scale.py

Nothing may be made for each image in Python that lasts, or a data set of this size would take gigabytes and
minutes before its first batch. So 1.58 million small presized images are made up, in 1,500 tars, half a
gigabyte in all: the tars' index, what was seen of the images and the cache's index are real, the tars and the
packs are holes of the right length, since pixels are not what is measured. Three processes each do what a
process of `ablate run` does: the study's own, which looks at everything again and finds all known; a stage's,
which opens items and cache and goes through an epoch in batches; and a stage's with `data.stream`.

Memory is what no other process shares, as Linux counts it: pages written to (`Private_Dirty`), and those of
files that only this process has mapped just now (`Private_Clean`), which the system may drop: the code of the
libraries, and the part of the cache that has been read.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ITEMS, SHARDS = 1_580_000, 1_500
SIDE, PACK = 20, 316
"""An image's side, and how many a pack has: as many as fit into 256 MiB at 460 pixels."""
SECONDS, MEGABYTES = 2, 500


def private() -> tuple[float, float]:
    """Megabytes that this process shares with nobody: written to, and of files."""
    rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    sizes = {row[0]: int(row[1]) / 1e3 for row in rows}
    return sizes["Private_Dirty:"], sizes["Private_Clean:"]


def recipe(folder: Path, stream: bool) -> Any:
    """A study of the images, cached even where they are streamed."""
    from ablate.recipe.recipe import Recipe

    data = {
        "root": str(folder),
        "shards": f"{{0000..{SHARDS - 1}}}.tar",
        "split": {"random": 0.01},
        "cache": {"format": "raw"},
    }
    return Recipe.from_dict(
        {
            "name": "scale",
            "data": data | ({"stream": {"shards": 8}} if stream else {}),
            "model": {"arch": "test_vit", "pretrained": False},
            "size": 16,
            "presize": SIDE,
            "batch_size": 256,
            "phases": [{"name": "one", "epochs": 1}],
            "study": {"baseline": ["augment"], "vary": [], "seeds": 1},
        }
    )


def make_up(folder: Path) -> None:
    """Tars, their index, what was seen of their images, and the cache, all but pixels."""
    import pyarrow as pa

    from ablate.data import place, shard_index
    from ablate.data.inspect import inspect
    from ablate.data.items import Item
    from ablate.data.packs import ROW, checksum, index_path, pack_path
    from ablate.data.shards import Fields, find_shards

    ends = np.linspace(0, ITEMS, SHARDS + 1).astype(int).tolist()
    for number in range(SHARDS):
        with (folder / f"{number:04d}.tar").open("wb") as tar:
            tar.truncate(10240 * (ends[number + 1] - ends[number]))
    inspect([Item(0, "0", folder / "0000.tar", 0)])  # makes the table of what was seen
    contents = np.frombuffer(np.random.default_rng(0).bytes(16 * ITEMS), "V16")
    shards = find_shards(str(folder), f"{{0000..{SHARDS - 1}}}.tar")
    fields = Fields("image", "label", None, ())
    database = sqlite3.connect(Path(os.environ["ABLATE_CACHE"], "images.sqlite"))
    (table,) = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
    three = repr((0.5123456789012345, 0.4123456789012345, 0.3123456789012345))
    for number, (shard, begin, end) in enumerate(zip(shards, ends, ends[1:], strict=False)):
        ids = [f"{number:04d}/{i:016x}" for i in range(begin, end)]
        offsets = [512 + 10240 * i for i in range(end - begin)]
        columns = {
            "id": pa.array(ids, pa.large_string()),
            "hash": pa.array([shard_index._hash(id_) for id_ in ids], pa.int64()),
            "offset": pa.array(offsets, pa.int64()),
            "length": pa.array([8192] * len(ids), pa.int64()),
            "label": pa.array([f"{i % 1000}" for i in range(begin, end)], pa.large_string()),
        }
        shard_index._remember(pa.table(columns), shard, "webdataset", fields)
        hashes = map(bytes.hex, contents[begin:end].tolist())
        known = zip(offsets, hashes, strict=True)
        rows = (
            (f"{shard.place}#{at}", shard.stamp, code, SIDE, SIDE, three, three, "") for at, code in known
        )
        database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    cache, length = place.folder(f"{SIDE}-raw"), SIDE * SIDE * 3
    black = np.zeros(length, np.uint8)
    for number, begin in enumerate(range(0, ITEMS, PACK), 1):
        here = contents[begin : begin + PACK]
        rows = np.zeros(len(here), ROW)
        rows["content"], rows["pack"], rows["length"] = here, number, length
        rows["height"] = rows["width"] = SIDE
        rows["offset"] = np.arange(len(here)) * length
        rows["checksum"] = [checksum(black, content, SIDE, SIDE) for content in here.tolist()]
        rows.tofile(index_path(cache, number))
        with pack_path(cache, number).open("wb") as pack:
            pack.truncate(len(here) * length)


def study(folder: Path, stream: bool) -> dict[str, Any]:
    """Find everything known, and leave the job of the first stage in `job`."""
    from ablate.data import place
    from ablate.data.items import load_items
    from ablate.data.looks import Looks
    from ablate.data.packs import Presized, lookup, read_rows
    from ablate.study import prepare
    from ablate.study.job import Job
    from ablate.study.plan import make_plan

    before, made = private(), recipe(folder, stream)
    began = time.perf_counter()
    load_items(made.data)
    items = time.perf_counter() - began
    sizes: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            sizes.append(private())

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    prepared = prepare.prepare(made, presizes=prepare.presizes_of(made))
    prepared_in = time.perf_counter() - began
    ended.set()
    watching.join()
    ready = private()
    (presized,) = prepared.presized.values()
    assert len(presized) == len(prepared.items.items) == ITEMS
    looks: Looks[Any] = Looks(ITEMS)
    looks.rows["content"] = presized.rows["content"]
    began = time.perf_counter()
    lookup(read_rows(place.folder(f"{SIDE}-raw")), looks.contents)
    Presized(presized.folder, presized.presize, presized.path)
    index = time.perf_counter() - began
    stage = next(s for s in make_plan(made, prepared.identities).stages.values() if s.kind == "fit")
    job = Job(
        stage.key,
        stage.label,
        stage.settings,
        str(folder),
        made.data.model_dump(mode="json"),
        workers=2,
        presized=prepared.presized,
    )
    (folder / "job").write_bytes(pickle.dumps(job))
    found = {"items": items, "prepared": prepared_in, "index": index}
    return found | {"before": before, "ready": ready, "highest": max(sizes)}


def stage(folder: Path, batches: int | None) -> dict[str, Any]:
    """Open what a stage opens, and go through an epoch."""
    from ablate import devices
    from ablate.training.data import dataloaders
    from ablate.training.stage import build_parts

    devices.load("cpu").start(2, False)
    before = highest = private()
    began = time.perf_counter()
    job = pickle.loads((folder / "job").read_bytes())
    opened = time.perf_counter() - began
    loader = dataloaders(build_parts(job, job.settings)).train
    read = iter(loader)
    next(read)
    first = time.perf_counter() - began
    ready, number = private(), 1
    for number, _ in enumerate(read, 2):
        if number % 500 == 5:
            highest = max(highest, private())
        if number == batches:
            break
    spent = time.perf_counter() - began - first
    found = {"opened": opened, "first": first, "rate": 256 * number / spent, "images": 256 * number}
    return found | {"before": before, "ready": ready, "highest": max(highest, private())}


def other_process(part: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--part", part, "--folder", str(folder)]
    command += ["--batches", str(given.batches)] if given.batches else []
    environment = os.environ | {"ABLATE_CACHE": str(folder / "cache")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def report(folder: Path, given: argparse.Namespace) -> None:
    """The tables, in Markdown."""
    other_process("make", folder, given)
    own = other_process("study", folder, given)
    plain = other_process("stage", folder, given)
    streamed = other_process("study-stream", folder, given), other_process("stage", folder, given)
    print(f"| {ITEMS:,} images in {SHARDS:,} shards | s | must reach |\n| --- | ---: | ---: |")
    print(f"| find all of them in the cache's index | {own['index']:.2f} | {SECONDS} |")
    print(f"| a stage opens those that were found | {plain['opened']:.4f} | {SECONDS} |")
    print(f"| items from the shards' index | {own['items']:.2f} | {SECONDS} |")
    print(f"| a study finds that all are known, split, fingerprinted, cached | {own['prepared']:.1f} | |")
    print(f"| the same with data.stream | {streamed[0]['prepared']:.1f} | |")
    print(f"| a stage's first batch | {plain['first']:.1f} | |")
    print(f"| the same with data.stream | {streamed[1]['first']:.1f} | |")
    print("\n| MB, written to + of files | imports | ready | at most | written, less imports | must reach |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    rows = {"a study": own, "a stage": plain, "a stage with data.stream": streamed[1]}
    for title, row in rows.items():
        cells = [row[name] for name in ("before", "ready", "highest")]
        told = " | ".join(f"{written:.0f} + {read:.0f}" for written, read in cells)
        bound = MEGABYTES if "stage" in title else ""
        print(f"| {title} | {told} | {cells[2][0] - cells[0][0]:.0f} | {bound} |")
    print(f"\n{plain['images']:,} images of an epoch, {plain['rate']:,.0f} a second.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, help="Of 256 images; default a whole epoch.")
    parser.add_argument("--part", help="Only this part, in this process.")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    parts = {
        "make": lambda: make_up(given.folder),
        "study": lambda: study(given.folder, False),
        "study-stream": lambda: study(given.folder, True),
        "stage": lambda: stage(given.folder, given.batches),
    }
    if given.part:
        print(json.dumps(parts[given.part]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), given)


if __name__ == "__main__":
    main()
