"""What Ray costs per stage beside the local executor. Run: python benchmarks/ray_overhead.py

Stages that do nothing, on a Ray cluster of two nodes of one CPU on this machine, and two at a time in the
local executor; in turns, so that both meet the same load. Must reach: less than 100 ms more per stage, and no
stage waits while a worker idles, but for these milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ray.cluster_utils import Cluster

from ablate.executors.base import Executor, Started
from ablate.executors.local import LocalExecutor
from ablate.executors.ray import RayExecutor
from ablate.study.job import Job

WORKERS = 2


@dataclass
class Times:
    """When jobs began and ended, by the clock of this process, and on which worker."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def gaps(self) -> list[float]:
        """Seconds between one job and the next on the same worker, as long as others wait."""
        workers: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self.began, key=self.began.__getitem__):
            workers[self.where[key]].append(key)
        return [
            max(self.began[after] - self.ended[before], 0.0)
            for keys in workers.values()
            for before, after in pairwise(keys)
        ]


def nothing(name: str, folder: Path) -> Job:
    (folder / name).mkdir()
    return Job(name, name, {"kind": "preflight", "stages": []}, str(folder / name), {})


def run(executor: Executor, names: Sequence[str], at_once: int, folder: Path) -> Times:
    """Run jobs that do nothing."""
    times, waiting, running = Times(), [*names], list[Started]()
    began = time.perf_counter()

    def told(name: str, message: dict[str, str]) -> None:
        if "started" in message:
            times.began[name], times.where[name] = time.perf_counter(), message["started"]

    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0)
            job = nothing(name, folder)
            running.append(executor.start(job, lambda message, name=name: told(name, message)))
        for one in executor.wait(running, 1.0):
            running.remove(one)
            one.result()
            times.ended[one.job.key] = time.perf_counter()
    times.seconds = time.perf_counter() - began
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=5, help="How often each takes its turn.")
    asked = parser.parse_args()
    cluster, measured = Cluster(), defaultdict[str, list[Times]](list)
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryDirectory() as folder:
        local = LocalExecutor(Path(logs), "cpu")
        try:
            for name in ("a", "b"):
                cluster.add_node(
                    num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, node_name=name
                )
            ray = RayExecutor(Path(logs), "cpu", cluster.address)
            for executor in (local, ray):  # servers start and import
                names = [f"warm {i} {type(executor).__name__}" for i in range(8)]
                run(executor, names, WORKERS, Path(folder))
            for block in range(asked.blocks):
                for name, executor, at_once in (("local", local, WORKERS), ("ray", ray, ray.slots)):
                    names = [f"{name} {block}.{i}" for i in range(asked.stages // asked.blocks)]
                    measured[name].append(run(executor, names, at_once, Path(folder)))
            ray.close()
        finally:
            cluster.shutdown()
    show(measured, asked.stages // asked.blocks)


def show(measured: dict[str, list[Times]], stages: int) -> None:
    per_stage = {
        name: [WORKERS * one.seconds / stages * 1e3 for one in blocks] for name, blocks in measured.items()
    }
    print(f"{'executor':<10} {'ms per stage and worker, by block':<50} median")
    for name, values in per_stage.items():
        print(
            f"{name:<10} {' '.join(f'{value:.0f}' for value in values):<50} {statistics.median(values):.0f}"
        )
    more = [ray - local for ray, local in zip(per_stage["ray"], per_stage["local"])]
    overhead = statistics.median(more)
    print(f"Ray over local: {overhead:.0f} ms per stage (must be below 100)")
    gaps = [gap for one in measured["ray"] for gap in one.gaps]
    whole = WORKERS * sum(one.seconds for one in measured["ray"])
    most = statistics.quantiles(gaps, n=100)[98]
    print(
        f"{len(gaps)} times a worker went from one stage to the next while others waited: median "
        f"{statistics.median(gaps) * 1e3:.1f} ms, 99% below {most * 1e3:.0f} ms, longest "
        f"{max(gaps) * 1e3:.0f} ms; {sum(gaps) / whole:.1%} of the workers' time"
    )
    if overhead >= 100 or max(gaps) >= 1.0:
        sys.exit("too much: 100 ms per stage, or a worker that idles for a second while stages wait")


if __name__ == "__main__":
    main()
