"""simplejpeg: a bare loop that decodes JPEGs from memory to RGB, in threads or in processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context

import simplejpeg
from timing import answer, arguments, images_per_second

photos: list[bytes] = []


def decode(numbers: range) -> int:
    for number in numbers:
        simplejpeg.decode_jpeg(photos[number % len(photos)], "RGB")
    return len(numbers)


def main() -> None:
    given = arguments(__doc__, ["threads", "processes"])
    photos.extend(file.read_bytes() for file in given.files)
    total = len(photos) * given.repeats
    parts = [range(start, total, given.threads) for start in range(given.threads)]
    pools: dict[str, Callable[[], Executor]] = {
        "threads": lambda: ThreadPoolExecutor(given.threads),
        "processes": lambda: ProcessPoolExecutor(given.threads, mp_context=get_context("fork")),
    }
    with pools[given.case]() as pool:
        rate = images_per_second(lambda: sum(pool.map(decode, parts)), given.seconds)
    answer(rate, versions={"simplejpeg": version("simplejpeg")})


if __name__ == "__main__":
    main()
