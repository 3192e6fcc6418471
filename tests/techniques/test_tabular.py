"""tabular: two inputs all the way, from the table's columns to trained networks and their predictions."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from ablate import Recipe, Study
from ablate.bench.subject import make_subject
from ablate.data.items import Item
from ablate.data.table_input import TensorTable
from ablate.errors import AblateError, RecipeError
from ablate.techniques import Technique
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner
from ablate.training.parts import Parts
from ablate.training.two_inputs import TwoInputs

mpl.use("Agg")
torch.set_num_threads(1)

COLUMNS = {"numeric": ["age"], "categorical": ["site"], "missing": ["", "unknown"]}


@pytest.fixture
def values(photos: Path) -> dict[str, Any]:
    """A recipe on photos with an age, which is sometimes missing, and a site, which tells the fox."""
    with (photos / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row |= {"age": str(20 + i) if i % 5 else "", "site": "den" if row["label"] == "fox" else "house"}
    with (photos / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    data = {"root": str(photos), "table": "table.csv", "split": {"column": "is_val"}, "tabular": COLUMNS}
    return {
        "name": "two",
        "data": data,
        "model": {"arch": "test_efficientnet", "pretrained": False, "head": {"hidden": [8]}},
        "size": 24,
        "presize": 32,
        "batch_size": 6,
        "phases": [{"name": "one", "epochs": 1, "lr": 1e-2}],
        "study": {"baseline": ["normalize", "augment", "tabular"], "vary": ["tabular", "cutmix"], "seeds": 1},
    }


@pytest.fixture
def parts(values: dict[str, Any]) -> Callable[..., Parts]:
    def make(*on: str, workers: int = 0, **overrides: Any) -> Parts:
        made = Recipe.from_dict(values, overrides).parts("one", on)
        return replace(made, workers=workers, device="cpu")

    return make


def learner(parts: Parts) -> Any:
    learn = build_learner(parts, dataloaders(parts))
    learn.remove_cbs([callback for callback in learn.cbs if callback.name == "progress"])
    learn.logger = lambda *_: None
    return learn


def batches(loader: Any, epoch: int = 0) -> list[tuple[Tensor, ...]]:
    loader.epoch = epoch
    return [tuple(part.as_subclass(Tensor).clone() for part in batch) for batch in loader]


def test_a_batch_is_images_rows_and_labels(parts: Callable[..., Parts]):
    made = parts()
    dls = dataloaders(made)
    assert dls.n_inp == 2
    images, table, labels = dls.valid.one_batch()
    assert (images.shape, table.shape, labels.shape) == ((6, 3, 24, 24), (6, 4), (6,))
    assert isinstance(table, TensorTable)
    assert made.encoder is not None
    items = list(made.side("valid"))
    np.testing.assert_array_equal(table.numpy(), made.encoder.encode([item.cells for item in items]))
    assert labels.tolist() == [item.target for item in items]


@pytest.mark.parametrize("workers", [0, 2])
def test_both_ways_of_making_a_batch_agree(parts: Callable[..., Parts], workers: int):
    made = parts(workers=workers)
    at_once, one_by_one = dataloaders(made), dataloaders(made)
    one_by_one.train.read_batch = one_by_one.valid.read_batch = None
    for side in ("train", "valid"):
        for epoch in range(2):
            both = zip_longest(
                batches(getattr(at_once, side), epoch), batches(getattr(one_by_one, side), epoch)
            )
            assert all(torch.equal(*parts) for pair in both for parts in zip_longest(*pair))


def test_rows_stay_with_their_images(parts: Callable[..., Parts]):
    made = parts(**{"study.baseline": ["tabular"]})
    dls = dataloaders(made)
    assert made.encoder is not None
    den = made.encoder.features.index("site=den")
    for _, table, labels in batches(dls.train):
        assert torch.equal(table[:, den] == 1, labels == made.items.classes.index("fox"))


def test_off_means_images_alone(parts: Callable[..., Parts], values: dict[str, Any]):
    off = parts(**{"study.baseline": ["normalize", "augment"]})
    del values["data"]["tabular"]
    values["study"] = {"baseline": ["normalize", "augment"]}
    plain = parts()
    assert not isinstance(learner(off).model, TwoInputs)
    for one, other in zip(batches(dataloaders(off).train), batches(dataloaders(plain).train), strict=True):
        assert len(one) == 2
        assert all(torch.equal(*both) for both in zip(one, other, strict=True))


def test_the_network_without_it_starts_the_same(parts: Callable[..., Parts]):
    off, on = (
        learner(parts(**{"study.baseline": []})).model,
        learner(parts(**{"study.baseline": ["tabular"]})).model,
    )
    assert all(torch.equal(*both) for both in zip(off[0].parameters(), on[0].parameters(), strict=True))
    (first, *_), (wider, *_) = ([m for m in model[1][2:] if isinstance(m, nn.Linear)] for model in (off, on))
    assert torch.equal(wider.weight[:, : first.in_features], first.weight)


@pytest.mark.parametrize("technique", ["mixup", "cutmix"])
def test_mixing_leaves_the_rows_alone(parts: Callable[..., Parts], technique: str):
    learn = learner(parts(technique))
    plain = batches(learn.dls.train)
    seen = []
    learn.model.register_forward_pre_hook(lambda _, xb: seen.append([x.clone() for x in xb]))
    learn.fit(1)
    for (images, table, _), (mixed, same) in zip(plain, seen, strict=False):
        assert not torch.equal(images, mixed)
        assert torch.equal(table, same)


def test_micro_batches_split_both(parts: Callable[..., Parts]):
    learn = learner(parts(micro_batch=2))
    sizes: list[tuple[int, ...]] = []
    learn.model.register_forward_pre_hook(lambda _, xb: sizes.append(tuple(len(x) for x in xb)))
    learn.fit(1)
    assert sizes[:9] == [(2, 2)] * 9


def test_it_trains_predicts_and_finds_rates(parts: Callable[..., Parts]):
    learn = learner(parts(**{"phases.0.epochs": 4}))
    assert learn.lr_find(show_plot=False, num_it=4, stop_div=False).valley > 0
    before = [p.clone() for p in learn.model[1][1].parameters()]
    learn.fit(2, 1e-2)
    assert all(not torch.equal(*both) for both in zip(before, learn.model[1][1].parameters(), strict=True))
    probabilities, targets = learn.get_preds()
    items = list(learn.dls.valid.dataset.items)
    for labelled in (False, True):
        again = learn.dls.test_dl(items, with_labels=labelled)
        assert len(again.one_batch()) == 2 + labelled
        torch.testing.assert_close(learn.get_preds(dl=again)[0], probabilities)
    moved = [replace(item, number=99 - item.number) for item in items]  # as of another table
    torch.testing.assert_close(learn.get_preds(dl=learn.dls.test_dl(moved))[0], probabilities)
    name, _, chances = learn.predict(items[0])
    torch.testing.assert_close(chances, probabilities[0])
    assert name in learn.dls.vocab
    assert targets.tolist() == [item.target for item in items]


def test_what_a_row_says_decides(parts: Callable[..., Parts]):
    learn = learner(parts())
    learn.fit(1)
    item: Item = learn.dls.valid.dataset.items[0]
    other = replace(item, cells=(80.0, "den"))
    chances = learn.get_preds(dl=learn.dls.test_dl([item, other]))[0]
    assert not torch.allclose(chances[0], chances[1])


def test_freezing_leaves_the_head_and_the_table_in_training(parts: Callable[..., Parts]):
    learn = learner(parts(**{"phases.0.freeze": True}))
    weights = {name: p.requires_grad for name, p in learn.model.named_parameters() if "bn" not in name}
    assert all(weights[name] == name.startswith("1.") for name in weights if weights[name] or "conv" in name)
    assert len(learn.opt.param_lists) == 2


def test_images_are_shown_with_their_rows(parts: Callable[..., Parts]):
    learn = learner(parts())
    learn.dls.valid.show_batch(max_n=4)
    texts = [text.get_text() for ax in plt.gcf().axes for text in ax.texts]
    titles = [ax.get_title() for ax in plt.gcf().axes]
    assert texts == ["26, house", "27, house", "34, house", "no age, house"]
    assert titles == ["cat", "cat", "dog", "dog"]
    learn.show_results(max_n=4, shuffle=False)
    assert [text.get_text() for ax in plt.gcf().axes for text in ax.texts] == texts
    assert plt.gcf().axes[0].get_title().startswith("cat\n")
    learn.dls.test_dl(list(learn.dls.valid.dataset.items)).show_batch(max_n=2)
    assert [text.get_text() for ax in plt.gcf().axes for text in ax.texts] == texts[:2]
    plt.close("all")


@pytest.mark.parametrize("at_once", [True, False])
def test_images_without_rows_are_refused(parts: Callable[..., Parts], photos: Path, at_once: bool):
    dls = dataloaders(parts())
    if not at_once:
        dls.valid.read_batch = None
    with pytest.raises(
        AblateError, match=r"0.jpg: the network sees columns of a table beside the image; give it an"
    ):
        dls.test_dl([photos / "cat" / "0.jpg"]).one_batch()


def test_a_recipe_that_shows_no_variant_its_columns(values: dict[str, Any]):
    values["study"] = {"baseline": ["normalize"], "seeds": 1}
    with pytest.raises(
        RecipeError, match=r"data.tabular is seen by no variant; put tabular into study.baseline or"
    ):
        Recipe.from_dict(values)
    for study in (
        {"vary": ["tabular"]},
        {"vary": [{"tabular": ["off", {"width": 4}]}]},
        {"design": [["tabular"]]},
    ):
        Recipe.from_dict({**values, "study": study})
    del values["study"]
    assert isinstance(Recipe.from_dict(values).learner(on=["tabular"]).model, TwoInputs)


@pytest.mark.parametrize(
    ("study", "where"),
    [
        ({"baseline": ["tabular"]}, "baseline"),
        ({"vary": ["tabular"]}, "vary"),
        ({"design": [["tabular"]]}, "design"),
    ],
)
def test_a_recipe_without_columns_to_show(values: dict[str, Any], study: dict[str, Any], where: str):
    del values["data"]["tabular"]
    with pytest.raises(
        RecipeError, match=rf"study.{where} has tabular, which needs data.tabular: the columns"
    ):
        Recipe.from_dict({**values, "study": study})
    del values["study"]
    with pytest.raises(AblateError, match=r"tabular: the recipe has no data.tabular; name the columns there"):
        Recipe.from_dict(values).learner(on=["tabular"])


def test_another_technique_may_make_the_head_anew(parts: Callable[..., Parts]):
    """Whatever changes the output layer finds it where it is in an image network."""

    class Third(Technique):
        name = "a_third"

        def model(self, model: Any, context: Any) -> Any:
            assert context.n_tabular == 4
            model[1][-1] = nn.Linear(model[1][-1].in_features, 3)
            return model

    made = parts()
    learn = learner(replace(made, on={"a_third": Third(), **made.on}))
    learn.fit(1)
    assert isinstance(learn.model, TwoInputs)


def test_a_study(values: dict[str, Any], tmp_path: Path):
    """From the recipe to the report's tables, and back to a trained learner."""
    study = Recipe.from_dict(values).run(tmp_path / "runs", threads=1, workers=0)
    assert set(study.trials["variant"]) == {"baseline", "baseline-tabular", "baseline+cutmix"}
    assert set(study.trials["status"]) == {"ok"}
    assert "tabular" in set(study.effects()["factor"])
    for variant in ("baseline", "baseline-tabular"):
        learn = Study.open(study.folder).learner(variant)
        with learn.no_bar(), learn.no_logging():
            again = learn.get_preds()[0].numpy()
        stored = study.predictions().query("variant == @variant").sort_index()
        np.testing.assert_allclose(again, stored[["p_0", "p_1", "p_2"]].to_numpy(), atol=1e-6)
        assert isinstance(learn.model, TwoInputs) == (variant == "baseline")


def test_the_same_study_after_a_cell_has_changed(values: dict[str, Any], tmp_path: Path):
    values["study"] = {"baseline": ["tabular"], "seeds": 1}
    Recipe.from_dict(values).run(tmp_path / "runs", threads=1, workers=0)
    table = Path(values["data"]["root"]) / "table.csv"
    table.write_text(table.read_text().replace(",21,", ",99,"))
    with pytest.raises(AblateError, match="the training images, labels or columns have changed"):
        Recipe.from_dict(copy.deepcopy(values)).run(tmp_path / "runs", threads=1, workers=0)


def test_bench_has_it_too(values: dict[str, Any]):
    made = make_subject(Recipe.from_dict(values), "one", [], device="cpu", workers=0).parts
    assert made.table is not None
    images, table, _ = dataloaders(made).train.one_batch()
    assert len(images) == len(table)
