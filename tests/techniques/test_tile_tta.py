from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ablate.data.crops import Tile
from ablate.data.presize import Presize
from ablate.errors import RecipeError
from ablate.recipe.recipe import Recipe
from ablate.streams import Streams
from ablate.study.design import Variant
from ablate.study.setting import work_out
from ablate.techniques.augment import Augment
from ablate.techniques.base import View
from ablate.techniques.normalize import Normalize
from ablate.techniques.tile_tta import TileTTA, spaced
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts
from ablate.training.predict import predict

PREDICTION = Streams(0, "predict")


def tiles_by_hand(parts: Parts, *places: tuple[int, int, int]) -> list[Tensor]:
    """The validation images, presized to 20 pixels, cut at top, left and side; as the loader gives them."""
    items = parts.side("valid")
    grey = [torch.from_numpy(Presize(20)(np.repeat(item.image[..., None], 3, 2))) for item in items]
    images = torch.stack(grey).permute(0, 3, 1, 2) / 255
    return [images[:, :, top : top + side, left : left + side] for top, left, side in places]


def predicted(parts: Parts, seen: list[Tensor] | None = None) -> np.ndarray:
    learn = quiet(build_learner(parts, dataloaders(parts)))
    plainly = learn.get_preds

    def spy(dl: Any, **kwargs: Any) -> Any:
        if seen is not None:
            seen.append(torch.cat([batch[0].as_subclass(Tensor) for batch in dl]))
            dl.epoch -= 1  # looking counts as an epoch
        return plainly(dl=dl, **kwargs)

    learn.get_preds = spy
    return predict(learn, parts, parts.side("valid"), PREDICTION)


def test_tiles_are_cut_from_edge_to_edge(make_parts: Callable):
    parts, seen = make_parts(TileTTA(rows=2, columns=3)), []
    predicted(parts, seen)
    places = [(top, left, 16) for top in (0, 4) for left in (0, 2, 4)]
    for found, expected in zip(seen, tiles_by_hand(parts, *places), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_tile_of_the_whole_image_is_the_plain_view(make_parts: Callable):
    whole = make_parts(Normalize(), TileTTA(rows=1, columns=1, tile=20))
    np.testing.assert_array_equal(predicted(whole), predicted(make_parts(Normalize())))


def test_the_prediction_is_the_mean_over_tiles(make_parts: Callable):
    parts = make_parts(TileTTA())
    learn = quiet(build_learner(parts, dataloaders(parts)))
    learn.model.eval()
    places = [(top, left, 16) for top in (0, 4) for left in (0, 4)]
    with torch.no_grad():
        votes = sum(learn.model(tile).softmax(1) for tile in tiles_by_hand(parts, *places))
    assert isinstance(votes, Tensor)
    found = predicted(parts)
    np.testing.assert_allclose(found, votes / 4, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), votes.argmax(1))


def test_every_copy_of_every_tile_is_asked_for_once(make_parts: Callable):
    asked: list[View] = []

    def predictor(view: View) -> Tensor:
        asked.append(view)
        return torch.full((2, 3), float(view.copy))

    augment = Augment(max_rotate=45.0)
    technique = TileTTA(rows=1, columns=2, tile=18, n=3, transforms="augment")
    mean = technique.predict(predictor, make_parts(technique, augment).context)(View())
    assert torch.equal(mean, torch.full((2, 3), 3.5))
    assert [view.copy for view in asked] == [1, 2, 3, 4, 5, 6]
    left, right = Tile(0.0, 0.5, 18), Tile(1.0, 0.5, 18)
    assert [view.transforms[0] for view in asked] == [left] * 3 + [right] * 3
    assert all(list(view.transforms[1:]) == augment.item_transforms() for view in asked)


def test_copies_of_a_tile_differ(make_parts: Callable):
    seen: list[Tensor] = []
    predicted(make_parts(TileTTA(rows=1, columns=1, n=3, transforms="augment")), seen)
    assert not any(torch.equal(seen[i], seen[j]) for i in range(3) for j in range(i))
    flips: list[Tensor] = []
    parts = make_parts(TileTTA(rows=1, columns=1, n=2, transforms="flips"), Augment())
    predicted(parts, flips)
    (plain,) = tiles_by_hand(parts, (2, 2, 16))
    for view in flips:
        both = torch.stack([plain, plain.flip(3)])
        assert ((both - view).abs().amax((2, 3, 4)).amin(0) < 1e-6).all()


@pytest.mark.parametrize(("width", "height"), [(30, 20), (20, 31), (24, 24)])
def test_tiles_of_images_of_any_shape(width: int, height: int):
    boxes = [Tile(x, y, 16).box((), width, height) for y in spaced(3) for x in spaced(2)]
    lefts, tops = sorted({box[0] for box in boxes}), sorted({box[1] for box in boxes})
    assert lefts == [0, width - 16]
    assert tops == [0, round((height - 16) / 2), height - 16]
    assert {box[2:] for box in boxes} == {(16, 16)}
    assert Tile(*spaced(1), *spaced(1)).box((), 30, 20) == (5, 0, 20, 20)


def test_augments_options_are_part_of_what_it_is_only_where_they_count():
    gentle, strong = {"augment": Augment()}, {"augment": Augment(max_rotate=40.0)}
    for technique, counts in ((TileTTA(), False), (TileTTA(transforms="augment"), True)):
        assert (technique.identity(gentle) != technique.identity(strong)) == counts


def test_copies_without_transforms_are_refused():
    with pytest.raises(ValidationError, match="all the same; set transforms to augment or flips"):
        TileTTA(n=4)


RECIPE = """\
name: tiles
data: {source: digits}
size: 16
phases:
  - {name: head, epochs: 1, presize: 18, size: 16}
  - {name: tune, epochs: 1, presize: 24}
techniques:
  tile_tta: {tile: %s}
study: {vary: [tile_tta]}
"""


@pytest.mark.parametrize(("tile", "wrong"), [("25", True), ("24", False), ("null", False)])
def test_a_tile_above_presize_is_found_in_planning(tile: str, wrong: bool, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE % tile)
    recipe = Recipe.load(path)
    variant = work_out(recipe, Variant("baseline", {}))
    assert "tile_tta" not in variant.on
    if not wrong:
        assert recipe.parts(on=["tile_tta"]).on["tile_tta"].name == "tile_tta"
        return
    with pytest.raises(RecipeError, match=r"r.yaml:8: .*tile 25 is above presize 24.* set presize to 25 or"):
        recipe.parts(on=["tile_tta"])


def test_it_costs_no_training():
    assert not TileTTA().trains_in("tune")
