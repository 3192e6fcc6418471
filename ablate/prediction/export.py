"""Write the networks of one variant into a folder of their own: weights, recipe, classes, ONNX if wanted.

recipe.yaml, classes.txt   what was trained, and the names of its outputs
techniques/                the files of the recipe's own techniques, if it has any
export.json                the variant and its networks; makes the folder one that `ablate predict` takes
seed-0-fold-0/             a network: weights.safetensors, inputs.json, model.onnx, and a seal with checksums
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from ablate import sealed
from ablate.errors import AblateError, Damaged
from ablate.files import replace_file
from ablate.prediction.networks import MANIFEST, Ensemble, Network
from ablate.recipe.technique_files import write_recipe
from ablate.training.best import weights_name
from ablate.training.inputs import INPUTS
from ablate.training.weights import WEIGHTS

ONNX = "model.onnx"
_NEEDED = ("onnx", "onnxscript")


def export(ensemble: Ensemble, folder: Path, *, onnx: bool = False) -> list[Path]:
    """Write an ensemble's networks into a folder that is not there yet, or is empty.

    Args:
        ensemble: The networks.
        folder: Where to.
        onnx: Whether to write `model.onnx` beside each network's weights.

    Returns:
        The files and folders that were written.

    Raises:
        AblateError: The folder is in use or cannot be written, weights are missing or damaged, or ONNX is not
            installed or cannot express the network.
    """
    if onnx and (missing := [name for name in _NEEDED if find_spec(name) is None]):
        raise AblateError(f"--onnx: {' and '.join(missing)} are not installed; `pip install ablate[onnx]`.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AblateError(f"--out {folder}: is there already; name a new folder, or empty this one.")
    places = [folder / f"seed-{network.seed}-fold-{network.fold}" for network in ensemble.networks]
    try:
        for network, place in zip(ensemble.networks, places, strict=True):
            _write(network, place, onnx)
        _describe(ensemble, folder, places)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise AblateError(f"--out {folder}: cannot be written ({error.strerror}).") from None
        raise
    return [folder / "recipe.yaml", folder / "classes.txt", folder / MANIFEST, *places]


def _write(network: Network, place: Path, onnx: bool) -> None:
    place.mkdir(parents=True)
    try:
        name = weights_name(network.folder, network.settings["keep"])
        (place / WEIGHTS).write_bytes(sealed.read(network.folder, name))
        (place / INPUTS).write_bytes(sealed.read(network.folder, INPUTS))
    except Damaged:
        raise network.unusable() from None
    if onnx:
        from ablate.prediction.onnx import write_onnx

        write_onnx(network, place / ONNX)
    sealed.seal(place)


def _describe(ensemble: Ensemble, folder: Path, places: list[Path]) -> None:
    """Write what there is to know of all networks; `export.json` last, since it makes the folder usable."""
    write_recipe(ensemble.recipe, folder)
    classes = "".join(f"{name}\n" for name in ensemble.classes)
    replace_file(folder / "classes.txt", lambda path: path.write_text(classes, encoding="utf-8"))
    content = {
        "variant": ensemble.variant,
        "threads": ensemble.threads,
        "networks": [
            {
                "seed": network.seed,
                "fold": network.fold,
                "folder": place.name,
                "settings": network.settings | {"keep": "last"},
            }
            for network, place in zip(ensemble.networks, places, strict=True)
        ],
    }
    text = json.dumps(content, indent=1)
    replace_file(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))
