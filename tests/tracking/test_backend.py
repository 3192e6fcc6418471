"""The loopback backend is true to what the real client does: it goes on with runs, and faults cost no row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loopback import Fault, Loopback

CLIENT = """
import sys, wandb
first, last, *more = sys.argv[1:]
waits = {f"x_{what}_retry_wait_{end}_seconds": seconds for what in ("file_stream", "graphql", "file_transfer")
         for end, seconds in (("min", 0.05), ("max", 0.1))}
settings = wandb.Settings(x_disable_stats=True, console="off", silent=True, **waits)
run = wandb.init(project="p", id="one", name="shown", group="g", job_type="trial", tags=["mixup"], notes="n",
                 config={"model": {"arch": "vit"}, "seed": 1}, resume="allow", settings=settings)
run.define_metric("loss", summary="min")
for step in range(int(first), int(last)):
    run.log({"loss": 1 / (step + 1)}, step=step)
if "files" in more:
    artifact = wandb.Artifact("trials", type="table")
    with artifact.new_file("trials.csv") as file:
        file.write("variant,seed")
    run.log_artifact(artifact)
    run.log({"table": wandb.Table(["item", "pred"], [["a", 1]])}, step=int(last))
run.finish(exit_code=0)
print("resumed", run.resumed)
"""


def client(tmp_path: Path, *arguments: object) -> str:
    """Log rows from one step to another in a process of its own, as the plain client does."""
    words = [sys.executable, "-c", CLIENT, *map(str, arguments)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_that_is_resumed_has_each_row_once(backend: Loopback, tmp_path: Path) -> None:
    assert "resumed False" in client(tmp_path, 0, 3)
    run = backend.runs["one"]
    assert (run.name, run.group, run.job_type, run.tags, run.notes) == ("shown", "g", "trial", ["mixup"], "n")
    assert run.config["seed"] == 1
    assert run.config["model"] == {"arch": "vit"}
    assert run.exit_code == 0
    assert run.summary["loss"] == {"min": 1 / 3}
    assert "resumed True" in client(tmp_path, 1, 5, "files")  # the client itself leaves out what is there
    assert run.steps == [0, 1, 2, 3, 4, 5]
    assert [row["loss"] for row in run.rows[:5]] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert (run.gaps, run.changed, run.received) == ([], [], 6)
    assert run.rows[5]["table"]["_type"] == "table-file"
    assert run.files[run.rows[5]["table"]["path"]]
    artifacts = {one.name: one for one in backend.artifacts}
    assert artifacts["trials"].files == {"trials.csv": b"variant,seed"}
    assert artifacts["trials"].committed
    assert list(artifacts["trials"].manifest["contents"]) == ["trials.csv"]
    assert backend.unknown == []


def test_no_row_is_lost_or_doubled_when_answers_are_broken_off(backend: Loopback, tmp_path: Path) -> None:
    backend.fault = Fault("cut", every=2, only="file_stream")
    client(tmp_path, 0, 4)
    assert backend.runs["one"].steps == [0, 1, 2, 3]
    backend.fault = Fault("status", every=2, status=500, only="file_stream")
    client(tmp_path, 4, 6)
    assert backend.runs["one"].steps == [0, 1, 2, 3, 4, 5]
    assert backend.runs["one"].changed == []


def test_the_backend_can_die_and_come_back_on_its_port(backend: Loopback, tmp_path: Path) -> None:
    url = backend.url
    client(tmp_path, 0, 1)
    backend.stop()
    backend.start()
    assert backend.url == url
    client(tmp_path, 1, 2)
    assert backend.runs["one"].steps == [0, 1]
