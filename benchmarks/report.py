"""How long the analysis and report of a large study take, and how much memory: `python benchmarks/report.py`.

Makes the folder of a study of 100 trials (20 variants, 5 seeds) on 20,000 images of 10 classes, as a run
leaves it, then times `Study.analyse()`, which computes the effects and writes every part of the report. With
`--classes 81313 --items 31609 --variants 4 --seeds 3` it is the landmark study.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ablate.analysis.names import MOST_CLASSES


def write_folder(folder: Path, variants: int, seeds: int, items: int, classes: int) -> None:
    """The tables and the plan of a study whose variants differ a little."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, items)
    ease = rng.normal(2.0, 1.5, items).astype(np.float32)  # what all trials have in common
    names = ["baseline", *(f"baseline+technique_{number}" for number in range(1, variants))]
    ids = pa.array([f"images/{number:06d}.jpg" for number in range(items)])
    writer, trials, history = (
        None,
        ["variant,seed,fold,train_seconds,status"],
        ["variant,seed,fold,phase,epoch,accuracy"],
    )
    for number, variant in enumerate(names):
        for seed in range(seeds):
            lead = ease + 0.02 * number + rng.normal(0, 0.05)
            drawn = (_all_classes if classes <= MOST_CLASSES else _top_classes)(rng, target, lead, classes)
            columns = {
                name: pa.array([value] * items) for name, value in (("variant", variant), ("seed", seed))
            }
            columns |= {"fold": pa.array([0] * items), "split": pa.array(["valid"] * items), "item": ids}
            columns |= {"group": pa.array([""] * items), "target": pa.array(target)}
            table = pa.table(columns | {name: pa.array(column) for name, column in drawn.items()})
            writer = writer or pq.ParquetWriter(folder / "predictions.parquet", table.schema)
            writer.write_table(table)
            accuracy = (drawn["pred"] == target).mean()
            trials.append(f"{variant},{seed},0,{100 + 10 * number},ok")
            history += [
                f"{variant},{seed},0,one,{epoch},{accuracy * (1 - 0.5 ** (epoch + 1))}" for epoch in range(20)
            ]
    assert writer is not None
    writer.close()
    (folder / "trials.csv").write_text("\n".join(trials) + "\n")
    (folder / "history.csv").write_text("\n".join(history) + "\n")
    (folder / "recipe.yaml").write_text("name: large\n")
    contrasts = [
        {"factor": name.partition("+")[2], "level": "on", "name": f"{name} − baseline"}
        | {"weights": {name: 1.0, "baseline": -1.0}, "primary": True, "unequal_epochs": False}
        for name in names[1:]
    ]
    plan = {
        "name": "large",
        "quick": False,
        "metric": "accuracy",
        "smallest_effect": 0.005,
        "baseline": "baseline",
    }
    plan |= {
        "classes": [f"class {k}" for k in range(classes)],
        "contrasts": contrasts,
        "versions": {},
        "summary": {},
    }
    (folder / "plan.json").write_text(json.dumps(plan))


def _all_classes(
    rng: np.random.Generator, target: np.ndarray, lead: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Predictions that lean towards the targets, as they are kept up to 1,000 classes."""
    logits = rng.normal(size=(len(target), classes)).astype(np.float32)
    logits[np.arange(len(target)), target] += lead
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return {"pred": p.argmax(1)} | {f"p_{k}": p[:, k] for k in range(classes)}


def _top_classes(
    rng: np.random.Generator, target: np.ndarray, lead: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """The like above 1,000 classes, drawn by the target's rank: all probabilities would take hours."""
    n = len(target)
    rank = np.minimum(np.exp(rng.normal(2 - lead, 2)).astype(np.int32) + 1, classes)
    top = rng.integers(0, classes, (n, 10), dtype=np.int32)
    chances = np.sort(rng.dirichlet(np.ones(11), n)[:, :10].astype(np.float32), axis=1)[:, ::-1]
    top[np.arange(n), np.minimum(rank, 10) - 1] = np.where(rank > 10, top[:, 9], target)
    own = chances[np.arange(n), np.minimum(rank, 10) - 1] / np.maximum(rank - 9, 1)
    columns = {"pred": top[:, 0].astype(np.int64)}
    columns |= {f"top_{i + 1}": top[:, i] for i in range(10)}
    columns |= {f"p_top_{i + 1}": chances[:, i] for i in range(10)}
    return columns | {"p_target": own.astype(np.float32), "rank_target": rank}


def measure(folder: Path) -> None:
    """Analyse and report in this process; prints seconds and the peak of its memory."""
    from ablate.study.study import Study

    began = time.perf_counter()
    Study.open(folder).analyse()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = (folder / "report.html").stat().st_size / 2**20
    print(f"analysis and report: {seconds:.1f} s, peak memory {peak:.2f} GiB, report.html {size:.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        measure(chosen.folder)
        return
    with TemporaryDirectory() as folder:
        write_folder(Path(folder), chosen.variants, chosen.seeds, chosen.items, chosen.classes)
        print(f"{chosen.variants * chosen.seeds} trials × {chosen.items:,} images × {chosen.classes} classes")
        # a process of its own, so that making the tables does not count
        subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
