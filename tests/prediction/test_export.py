"""An export predicts what its study does, and its ONNX files what its networks do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from small_studies import Alone

from ablate.errors import AblateError
from ablate.prediction.asked import Asking, predict_images
from ablate.prediction.export import export
from ablate.prediction.networks import find_ensemble

ASKING = Asking(device="cpu", threads=1, workers=0)


def test_it_predicts_what_the_study_does(small: Alone, tmp_path: Path):
    ensemble = find_ensemble(small.folder, "baseline+tta")
    written = export(ensemble, tmp_path / "made" / "exported")
    assert all(path.exists() for path in written)
    shutil.move(tmp_path / "made" / "exported", tmp_path / "moved")
    again = find_ensemble(tmp_path / "moved")
    assert again.note == "baseline+tta: 4 networks (2 seeds, 2 folds)"
    assert again.threads == ensemble.threads == 1
    table, images = small.tables / "test.csv", small.images
    pd.testing.assert_frame_equal(
        predict_images(again, table, ASKING, root=images),
        predict_images(ensemble, table, ASKING, root=images),
    )
    assert (tmp_path / "moved" / "classes.txt").read_text() == "cat\ndog\nfox\n"
    with pytest.raises(AblateError, match=r"--variant: .*moved was exported with baseline\+tta alone"):
        find_ensemble(tmp_path / "moved", "baseline")


def test_the_best_epochs_weights_are_the_weights(table: Alone, tmp_path: Path):
    ensemble = find_ensemble(table.folder)
    export(ensemble, tmp_path / "exported")
    ours = load_file(tmp_path / "exported" / "seed-0-fold-0" / "weights.safetensors")
    kept = next(ensemble.networks[0].folder.glob("*.safetensors"))
    assert all(np.array_equal(array, ours[name]) for name, array in load_file(kept).items())
    asked = table.tables / "train.csv"
    pd.testing.assert_frame_equal(
        predict_images(find_ensemble(tmp_path / "exported"), asked, ASKING, root=table.images),
        predict_images(ensemble, asked, ASKING, root=table.images),
    )


def test_a_folder_in_use_is_left_alone(small: Alone, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(
            AblateError, match=r"--out .*: is there already; name a new folder, or empty this one"
        ):
            export(find_ensemble(small.folder), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_broken_off_leaves_nothing(changed: Alone, tmp_path: Path):
    ensemble = find_ensemble(changed.folder, "baseline")
    (ensemble.networks[2].folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(AblateError, match=r"weights\.safetensors: is missing or damaged"):
        export(ensemble, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_manifest_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "export.json").write_text('{"variant": "baseline"}')
    with pytest.raises(AblateError, match=r"export\.json: cannot be read; run `ablate export` again"):
        find_ensemble(tmp_path)


def test_onnx_that_is_not_installed_is_named(small: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ablate.prediction.export.find_spec", lambda name: None)
    with pytest.raises(
        AblateError, match=r"onnx and onnxscript are not installed; `pip install ablate\[onnx\]`"
    ):
        export(find_ensemble(small.folder), tmp_path / "exported", onnx=True)


@pytest.mark.parametrize("count", [1, 5])
def test_onnxruntime_gives_the_networks_probabilities(
    small: Alone, tmp_path_factory: pytest.TempPathFactory, count: int
):
    """Of pixels between 0 and 1 at the recipe's size, in batches of any size."""
    pytest.importorskip("onnxruntime")
    folder = exported(small, tmp_path_factory)
    pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
    session = session_of(folder)
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("images", ["batch", 3, 32, 32])]
    ours = session.run(["probabilities"], {"images": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255})[
        0
    ]
    assert ours.shape == (count, 3)
    assert np.allclose(ours, torch_probabilities(folder, pixels), atol=1e-5)


def session_of(folder: Path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def exported(study: Alone, factory: pytest.TempPathFactory) -> Path:
    """One network of a study as ONNX, made once."""
    from dataclasses import replace

    ensemble = find_ensemble(study.folder)
    folder = study.folder.parent / "onnx"
    if not folder.exists():
        export(replace(ensemble, networks=ensemble.networks[:1]), folder, onnx=True)
    return folder / "seed-0-fold-0"


def torch_probabilities(folder: Path, pixels: np.ndarray, *table: np.ndarray) -> np.ndarray:
    """The same by timm and torch alone: weights and statistics are read from the export's own files."""
    import json

    import torch
    from fastai.vision.learner import create_timm_model

    content = json.loads((folder / "inputs.json").read_text())
    model = create_timm_model("test_vit", 3, pretrained=False)[0].eval()
    arrays = load_file(folder / "weights.safetensors")
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    mean, std = (np.array(content[f"pixel_{name}"], np.float32) for name in ("mean", "std"))
    images = torch.from_numpy(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return model(images).softmax(1).numpy()


def test_a_network_that_sees_a_table_has_two_inputs(table: Alone, tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("onnxruntime")
    session = session_of(exported(table, tmp_path_factory))
    names = [one.name for one in session.get_inputs()]
    assert names == ["images", "table"]
    width = session.get_inputs()[1].shape[1]
    network = find_ensemble(table.folder).networks[0]
    assert width == len(network.inputs.encoder.features)
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    rows = np.random.default_rng(1).normal(size=(2, 3, width)).astype(np.float32)
    one, other = (session.run(None, {"images": images, "table": own})[0] for own in rows)
    assert np.allclose(one.sum(1), 1, atol=1e-5)
    assert not np.allclose(one, other, atol=1e-4)
