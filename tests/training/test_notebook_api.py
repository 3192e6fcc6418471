"""What fastai's own methods do with a learner of ours: on digits, on photos, and on photos with a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner, load_learner
from fastai.vision.core import PILImage
from PIL import Image
from sklearn.metrics import confusion_matrix
from technique_settings import SETTINGS
from torch import Tensor, nn
from torch.nn import functional

from ablate import Recipe, techniques
from ablate.techniques.base import Technique

mpl.use("agg")
from matplotlib import pyplot as plt

torch.set_num_threads(1)

MORE: dict[str, Any] = {
    "model": {"arch": "test_efficientnet", "pretrained": False, "head": {"hidden": [8]}},
    "size": 16,
    "phases": [{"name": "one", "epochs": 1, "lr": 1e-2}],
    "techniques": {"label_smoothing": {"eps": 0.1}},
}
KINDS = {
    "digits": {
        "data": {"source": "digits", "split": {"random": 0.2}},
        "batch_size": 256,
        "study": {"baseline": ["normalize"], "vary": ["mixup", "label_smoothing"]},
    },
    "photos": {
        "data": {"table": "table.csv", "split": {"column": "is_val"}},
        "batch_size": 6,
        "study": {"baseline": ["normalize", "augment"], "vary": ["mixup", "label_smoothing"]},
    },
    "photos and a table": {
        "data": {
            "table": "table.csv",
            "split": {"column": "is_val"},
            "tabular": {"numeric": ["age"], "categorical": ["site"]},
        },
        "batch_size": 6,
        "study": {"baseline": ["normalize", "tabular"], "vary": ["mixup", "label_smoothing"]},
    },
}


@pytest.fixture(scope="module", params=KINDS)
def learn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learner]:
    """A learner of each kind of recipe, trained a little. Only to be asked."""
    folder = tmp_path_factory.mktemp("kind")
    values = {"name": "kind", **MORE, **KINDS[request.param]}
    if "table" in values["data"]:
        write_photos(folder)
        values["data"] = values["data"] | {"root": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(folder / "cache"))
        made = Recipe.from_dict(values).learner(on=["mixup", "label_smoothing"], seed=1)
        made.path = folder
        with made.no_bar(), made.no_logging():
            made.fit_one_cycle(1, 1e-2)
            yield made


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def write_photos(folder: Path) -> None:
    """Photos of three colours, a third of them for validation, with an age and a site."""
    rng = np.random.default_rng(0)
    rows = [["image", "label", "is_val", "age", "site"]]
    for number, (label, colour) in enumerate(
        [*{"cat": (200, 60, 60), "dog": (60, 180, 60), "fox": (60, 60, 200)}.items()] * 6
    ):
        pixels = np.clip(np.array(colour) + rng.normal(0, 30, (20, 28, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(
            [f"{number}.png", label, str(number >= 12), str(number), "den" if number % 2 else "house"]
        )
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def by_hand(learn: Learner, side: int = 1) -> tuple[Tensor, Tensor]:
    """Logits and targets of the validation side, batch by batch through the bare network."""
    learn.model.eval()
    logits, targets = [], []
    with torch.no_grad():
        for *inputs, y in learn.dls[side]:
            logits.append(plain(learn.model(*inputs)))
            targets.append(plain(y))
    return torch.cat(logits), torch.cat(targets)


def image_axes() -> list[Any]:
    return [axis for number in plt.get_fignums() for axis in plt.figure(number).axes if axis.get_images()]


def test_the_loaders_know_the_classes_and_show_their_images(learn: Learner):
    dls = learn.dls
    assert isinstance(dls, DataLoaders)
    assert dls.c == len(dls.vocab) == len(learn.model[1][-1].weight)
    dls.show_batch(max_n=4)
    shown = image_axes()
    assert len(shown) == 4
    assert {axis.get_title() for axis in shown} <= set(dls.vocab)


def test_predictions_are_those_of_the_network(learn: Learner):
    logits, targets = by_hand(learn)
    chances, found, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    torch.testing.assert_close(plain(chances), logits.softmax(1))
    assert torch.equal(plain(found), targets)
    assert torch.equal(plain(decoded), logits.argmax(1))
    smoothed = functional.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(plain(losses), smoothed)
    loss, accuracy = learn.validate()
    assert accuracy == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert loss == pytest.approx(float(smoothed.mean()), rel=1e-4)


def test_tta_weighs_augmented_copies(learn: Learner):
    logits, targets = by_hand(learn)
    loader, copies = learn.dls.valid.new(), []
    with torch.no_grad(), loader.dataset.set_split_idx(0):
        for loader.epoch in range(2):
            copies.append(torch.cat([plain(learn.model(*inputs)) for *inputs, _ in loader]).softmax(1))
    if learn.dls.c == 3:  # there is room to crop photos, and they are flipped
        assert not torch.allclose(copies[0], copies[1])
        assert not torch.allclose(copies[0], logits.softmax(1))
    for beta in (0.25, 1):
        expected = (copies[0] + copies[1]) / 2 * (1 - beta) + beta * logits.softmax(1)
        chances, found = learn.tta(n=2, beta=beta)
        assert torch.equal(plain(found), targets)
        torch.testing.assert_close(plain(chances), expected)


def test_one_image_and_new_ones_are_predicted(learn: Learner):
    items = learn.dls.valid_ds.items[:3]
    chances = by_hand(learn)[0].softmax(1)
    name, number, found = learn.predict(items[0])
    torch.testing.assert_close(plain(found), chances[0])
    assert name == learn.dls.vocab[int(number)] == learn.dls.vocab[int(chances[0].argmax())]
    loader = learn.dls.test_dl(items)
    torch.testing.assert_close(plain(learn.get_preds(dl=loader)[0]), chances[:3])
    if learn.dls.n_inp == 1:
        sources = [np.asarray(items[0].image)] if learn.dls.c == 10 else [items[0].image, str(items[0].image)]
        for source in [*sources, PILImage.create(sources[0])]:
            torch.testing.assert_close(plain(learn.predict(source)[2]), chances[0])


def test_results_are_shown_with_both_labels(learn: Learner):
    learn.show_results(max_n=4, shuffle=False)
    logits, targets = by_hand(learn)
    expected = [
        f"{learn.dls.vocab[int(y)]}\n{learn.dls.vocab[int(z)]}"
        for y, z in zip(targets[:4], logits[:4].argmax(1), strict=True)
    ]
    assert [axis.get_title() for axis in image_axes()] == expected


def test_it_is_interpreted(learn: Learner):
    seen = ClassificationInterpretation.from_learner(learn)
    logits, targets = by_hand(learn)
    matrix = confusion_matrix(targets, logits.argmax(1), labels=range(learn.dls.c))
    assert np.array_equal(seen.confusion_matrix(), matrix)
    names = learn.dls.vocab
    wrong = {(names[i], names[j], int(matrix[i, j])) for i, j in np.argwhere(matrix) if i != j}
    assert set(seen.most_confused()) == wrong
    seen.plot_confusion_matrix()
    plt.close("all")
    losses = functional.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    expected, where = losses.topk(3)
    found, at, items = seen.top_losses(3, items=True)
    torch.testing.assert_close(plain(found), expected)
    assert [item.id for item in items] == [learn.dls.valid_ds.items[int(i)].id for i in at]
    seen.plot_top_losses(3)
    titles = [axis.get_title().split(" / ") for axis in image_axes()]
    for (labels, loss, chance), i in zip(titles, where, strict=True):
        assert labels == f"{names[int(logits[i].argmax())]}/{names[int(targets[i])]}"
        assert float(loss) == pytest.approx(float(losses[i]), abs=0.0051)
        assert float(chance) == pytest.approx(float(logits[i].softmax(0).max()), abs=0.0051)


def test_training_images_are_interpreted_too(learn: Learner):
    seen = ClassificationInterpretation.from_learner(learn, ds_idx=0)
    targets = [item.target for item in learn.dls.train_ds.items]
    counts = np.bincount(targets, minlength=learn.dls.c)
    assert np.array_equal(seen.confusion_matrix().sum(1), counts)
    _, where = seen.top_losses(3)
    seen.plot_top_losses(3)
    actual = [axis.get_title().split(" / ")[0].split("/")[1] for axis in image_axes()]
    assert actual == [learn.dls.vocab[targets[int(i)]] for i in where]


def test_rates_are_found_and_the_weights_stay(learn: Learner):
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    assert 1e-7 < learn.lr_find(num_it=12, stop_div=False, show_plot=True).valley < 10
    assert len(plt.gcf().axes[0].lines[0].get_xdata()) > 3
    after = learn.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_the_block_tells_what_it_does(learn: Learner, capsys: pytest.CaptureFixture[str]):
    recipe = Recipe.from_dict({"name": "kind", **MORE, **KINDS["digits"]})
    dls = recipe.dataloaders()
    recipe.datablock().summary(dls.train_ds.items, bs=4)
    told = capsys.readouterr().out
    assert "Setting up Pipeline: Open" in told
    assert "(TensorImage of size 4x3x16x16, TensorCategory([" in told


def test_a_learner_is_exported_after_training(learn: Learner):
    item = learn.dls.valid_ds.items[0]
    expected = learn.predict(item)[2]
    learn.export("learner.pkl")
    again = load_learner(learn.path / "learner.pkl")
    with again.no_bar():
        assert torch.equal(plain(again.predict(item)[2]), plain(expected))


def own_learner(*callbacks: Any) -> Learner:
    """Somebody's own learner, that knows nothing of recipes: noise of two classes, told by its colour."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((16, 3, 8, 8), generator=generator)
    targets = torch.arange(16) % 2
    images[:, 0] += targets[:, None, None]
    items = list(zip(images, targets, strict=True))
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network = nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(144, 2)))
    learn = Learner(
        DataLoaders(*(DataLoader(side, bs=4, num_workers=0) for side in (items, items[:8]))),
        network,
        loss_func=nn.CrossEntropyLoss(),
        splitter=lambda model: [list(part.parameters()) for part in model],
        cbs=list(callbacks),
    )
    learn.logger = lambda *_: None
    return learn


WITH_CALLBACKS = [
    (name, options)
    for name, technique in techniques.registry().items()
    if technique.callbacks is not Technique.callbacks
    for options in SETTINGS.get(name, [{}])
    if "monitor" not in options  # that figure is a metric of the learner's owner
]


@pytest.mark.parametrize(("name", "options"), WITH_CALLBACKS, ids=str)
def test_callbacks_serve_in_anybodys_learner(name: str, options: dict[str, Any]):
    made = techniques.build(name, options).callbacks()
    assert made
    learn = own_learner(*made)
    with learn.no_bar():
        learn.fit(2, 1e-2)
    assert all(np.isfinite([float(value) for value in row]).all() for row in learn.recorder.values)
