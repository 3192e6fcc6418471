"""A phase on two devices: it is what it would be on one, it goes on, it stops, and it leaves nothing behind.

The devices are processes on the CPU, which talk by gloo.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from stages import Runner, tiny_recipe
from timm.layers import convert_sync_batchnorm
from torch import nn

from ablate.data.share import Share
from ablate.errors import AblateError, RecipeError, StageStopped
from ablate.study.plan import make_plan
from ablate.training.batch_norms import recompute_statistics
from ablate.training.distributed import Multiplied
from ablate.training.ranks import RankDied, require_devices, together
from ablate.training.stage import run_job

TWO = {
    "model": {"arch": "test_vit", "pretrained": False, "head": {}},  # its norms are layer norms
    "phases": [{"name": "body", "epochs": 3, "lr": 1e-3}],
    "study__vary": [],
    "study__seeds": 1,
}

DESCENT = """
from ablate.techniques.base import Technique

class Descent(Technique):
    name = "descent"

    def optimizer(self, optimizer, context):
        from fastai.optimizer import SGD
        return SGD
"""
"""Plain gradient descent, which tells a gradient from its multiple, as Adam would not."""


@pytest.fixture
def make(photos: Path, tmp_path: Path) -> Callable[..., Runner]:
    """Makes a `Runner` with a folder of its own: `make(2, micro_batch=2)` for two devices."""
    numbers = count()

    def runner(*devices: int, **overrides: Any) -> Runner:
        recipe = tiny_recipe(photos, **(TWO | dict(zip(["devices"], devices)) | overrides))
        return Runner(recipe, tmp_path / f"stages-{next(numbers)}")

    return runner


@pytest.fixture
def two(make: Callable[..., Runner]) -> Path:
    """The folder of the phase on two devices, undisturbed."""
    made = make(2)
    return made.run(made.fit())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns=["seconds", "phase"])


def assert_alike(folder: Path, other: Path, atol: float) -> None:
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    for name, own in ours.items():
        torch.testing.assert_close(own, theirs[name], atol=atol, rtol=0, msg=name)


def test_two_devices_give_what_one_gives_with_the_same_batches(make: Callable[..., Runner], two: Path):
    one = make(1)
    assert_same_training(two, one.run(one.fit()))


def test_two_devices_descend_as_one_does(make: Callable[..., Runner]):
    descent: dict[str, Any] = {
        "technique_files": [{"name": "descent", "source": DESCENT}],
        "study__baseline": ["normalize", "descent"],
        "phases__0__lr": 0.1,
        "phases__0__epochs": 2,
    }
    assert_same_training(*(made.run(made.fit()) for made in (make(2, **descent), make(1, **descent))))


def assert_same_training(two: Path, alone: Path) -> None:
    assert_alike(two, alone, atol=1e-4)
    for name in ("history.csv", "steps.csv"):
        ours, theirs = (pd.read_csv(folder / name) for folder in (two, alone))
        ours, theirs = (table.drop(columns=["seconds", "phase"], errors="ignore") for table in (ours, theirs))
        pd.testing.assert_frame_equal(ours, theirs, atol=1e-4, rtol=1e-4)
    assert pd.read_csv(two / "steps.csv")["loss"].diff().abs().max() > 1e-2  # it does train


def test_the_sum_of_a_batchs_losses_is_that_of_its_shares(make: Callable[..., Runner]):
    summed = {
        "study__baseline": ["normalize", "focal_loss"],
        "techniques__focal_loss": {"reduction": "sum"},
        "phases__0__epochs": 1,
        "micro_batch": 2,
    }
    folders = [made.run(made.fit()) for made in (make(1, **summed), make(2, **summed))]
    assert_alike(*folders, atol=1e-4)
    losses = [pd.read_csv(folder / "steps.csv")["loss"] for folder in folders]
    pd.testing.assert_series_equal(*losses, rtol=1e-4)


def test_two_devices_twice_give_the_same_bits_and_go_on_after_every_epoch(
    make: Callable[..., Runner], two: Path
):
    made, stage = make(2), make(2).fit()
    for epoch in (1, 2):
        with pytest.raises(StageStopped, match=f"stopped after epoch {epoch}"):
            made.run(stage, stopping=lambda: True)
        place = made.folder(stage.key).parent
        assert sorted(path.name for path in place.iterdir()) == [f"epoch-{epoch - 1}", "out"]
    parts = made.run(stage)
    assert_alike(parts, two, atol=0)
    pd.testing.assert_frame_equal(history(parts), history(two), check_exact=True)
    assert {path.name for path in parts.iterdir()} == {path.name for path in two.iterdir()}
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_what_is_kept_beside_the_weights_is_the_same_for_all(make: Callable[..., Runner], averaging: str):
    """Batch norms, averages of weights, mixing and a second pass, each in its place around the others."""
    many = {
        "model": {"arch": "test_efficientnet", "pretrained": False},
        "study__baseline": ["normalize", "mixup", "gradient_clip", "sam", "early_stopping", averaging],
        "phases__0__epochs": 2,
    }
    whole, parts = make(2, **many), make(2, **many)
    folder = whole.run(whole.fit())
    with pytest.raises(StageStopped):
        parts.run(parts.fit(), stopping=lambda: True)
    assert_alike(parts.run(parts.fit()), folder, atol=0)
    assert history(folder).map(lambda value: value == value).all(axis=None)
    predicted = whole.predictions()
    assert predicted.filter(like="p_").sum(axis=1).round(4).eq(1).all()


def test_each_device_decodes_its_part_of_the_batch():
    batch = [*range(6)]
    assert [Share(rank, 3).of(batch) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert Share().of(batch) == batch
    keys = {Share(rank, 2).index(number) for rank in range(2) for number in range(100)}
    assert len(keys) == 200
    assert Share().index(7) == 7


def test_a_rank_that_is_killed_ends_the_stage_with_a_sentence(make: Callable[..., Runner]):
    made = make(2, phases__0__epochs=50)
    killed: list[int] = []

    def kill(message: dict[str, Any]) -> None:
        if "epoch" in message and not killed:
            (last,) = [one for one in multiprocessing.active_children() if one.name == "rank 1"]
            killed.append(last.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(RankDied, match=r"device 2 of 2: its process was killed \(SIGKILL\)"):
        made.run(made.fit(), kill)
    assert time.monotonic() - began < 60
    assert not multiprocessing.active_children()


def fails(share: Share, *_: Any) -> None:
    if share.rank == 1:
        raise RecipeError("data: is wrong.")
    time.sleep(30 if share.rank == 0 else 0)


def test_the_first_error_is_told_and_the_others_need_not_end_by_themselves():
    began = time.monotonic()
    with pytest.raises(RecipeError, match=r"data: is wrong\."):
        together(fails, 3, lambda _: None, lambda: False)
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()


def rank_numbers(share: Share, meet: Path, report: Callable[[Any], None], stopping: Any) -> int:
    report({"rank": share.rank})
    return share.rank


def test_the_first_one_reports_and_answers_for_all():
    told: list[Any] = []
    assert together(rank_numbers, 3, told.append, lambda: False) == 0
    assert told == [{"rank": 0}]


def _stage(job: Any, pids: Any) -> None:
    def tell(message: dict[str, Any]) -> None:
        if "epoch" in message:
            pids.send([one.pid for one in multiprocessing.active_children()])

    run_job(job, tell)


def test_a_stage_that_is_killed_leaves_no_rank_behind(
    make: Callable[..., Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made = make(2, phases__0__epochs=200)
    stage = made.fit()
    made.folder(stage.key).mkdir(parents=True)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_stage, args=(made.job(stage), theirs))
    process.start()
    assert ours.poll(60)
    ranks = ours.recv()
    assert len(ranks) == 2
    assert [*(tmp_path / "temporary").iterdir()]
    process.kill()
    process.join()
    end = time.monotonic() + 20
    while any(runs(pid) for pid in ranks) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(runs(pid) for pid in ranks)
    assert not [*(tmp_path / "temporary").iterdir()]


def runs(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_device_has_the_keys_that_it_had(make: Callable[..., Runner]):
    plain, one, two = (set(made.plan.stages) for made in (make(), make(1), make(2)))
    assert plain == one
    assert not plain & two
    found = {"phases__0__lr": "find"}
    shared = set(make(1, **found).plan.stages) & set(make(2, **found).plan.stages)
    assert {make(1, **found).plan.stages[key].kind for key in shared} == {"lr_find"}


def test_a_job_tells_how_many_devices_it_takes(make: Callable[..., Runner]):
    made = make(2)
    job = made.job(made.fit())
    predict = made.job(made.plan.stages[made.trial().predict])
    assert (job.devices, predict.devices) == (2, 1)
    settings = {"kind": "preflight", "stages": [predict.settings, job.settings]}
    assert type(job)("preflight", "preflight", settings, job.folder, job.data).devices == 2


def test_preflight_tries_a_share_of_a_batch(make: Callable[..., Runner], tmp_path: Path):
    made = make(2)
    job = made.job(made.fit())
    told: list[Any] = []
    run_job(
        type(job)(
            "preflight",
            "preflight",
            {"kind": "preflight", "stages": [job.settings]},
            str(tmp_path),
            job.data,
        ),
        told.append,
    )
    assert told == [{"done": 1, "total": 1}]
    assert json.loads((tmp_path / "DONE.json").read_text())["status"] == "ok"


@pytest.mark.parametrize(
    ("devices", "device", "sentence"),
    [
        (4, "cpu", "devices is 4, and the batches of 6 images in phase body do not divide by it; set "
         "batch_size to 4 or 8."),
        (9, "cpu", "do not divide by it; set batch_size to 9."),
        (2, "xla", "devices is 2, which is for --device cuda: a stage uses all TPU cores of its machine by "
         "itself; write 1."),
        (2, "mps", "devices is 2, which is for --device cuda: a Mac has one GPU; write 1."),
    ],
)  # fmt: skip
def test_what_cannot_work_is_a_sentence_in_planning(
    photos: Path, devices: int, device: str, sentence: str, make: Callable[..., Runner]
):
    recipe = tiny_recipe(photos, **(TWO | {"devices": devices}))
    with pytest.raises(RecipeError) as caught:
        make_plan(recipe, make(1).prepared.identities, device=device)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("devices", [0, -1, 1.5, "all"])
def test_a_number_of_devices_that_is_none_is_refused(photos: Path, devices: Any):
    with pytest.raises(RecipeError, match="devices"):
        tiny_recipe(photos, devices=devices)


def test_synchronized_batch_norms_are_worked_out_anew_as_others_are():
    """They are no others where nobody else is there, and so on one device."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    synchronized = convert_sync_batchnorm(deepcopy(plain))
    batches = [(torch.randn(5, 3, 8, 8),) for _ in range(3)]
    for network in (plain, synchronized):
        network.train()
        recompute_statistics(network, batches)
    assert isinstance(synchronized[1], nn.SyncBatchNorm)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(synchronized[1], name), getattr(plain[1], name))


def test_a_loss_that_is_multiplied_is_otherwise_the_same():
    loss = Multiplied(nn.CrossEntropyLoss(reduction="sum"), 3)
    scores, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert float(loss(scores, target)) == pytest.approx(
        3 * float(nn.functional.cross_entropy(scores, target, reduction="sum"))
    )
    assert loss.reduction == "sum"


def test_more_gpus_than_there_are_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_devices("cuda", 2)
    with pytest.raises(AblateError, match="devices: 3 GPUs are asked for, and 2 can be seen here; lower"):
        require_devices("cuda", 3)


def test_accelerate_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ablate.training.ranks.find_spec", lambda name: None)
    require_devices("cpu", 1)
    with pytest.raises(AblateError, match=r"2 devices need accelerate; run `pip install 'ablate\[distr"):
        require_devices("cpu", 2)
