"""`ablate init`: a commented recipe to start from, for a folder of images or a CSV table."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections import Counter
from pathlib import Path

from PIL import Image

from ablate.data.images import SUFFIXES
from ablate.data.items import Items, load_items
from ablate.data.splits import make_folds
from ablate.errors import AblateError
from ablate.recipe.guess import Guess, guess, read_columns
from ablate.recipe.recipe import Recipe

_SIDES = frozenset({"train", "training", "val", "valid", "validation", "test"})
_TEMPLATE = """\
# Written by `ablate init`; every line can be changed. `ablate techniques` lists all techniques and options.
name: {name}
data:
{data}
model:
  arch: resnet18                       # any timm architecture
  pretrained: true                     # published weights, downloaded once; when offline:
  # weights: path/to/weights.safetensors
size: {size:<33}# of the images in pixels, in the last phase and in prediction
presize: {presize:<30}# the shorter side before the random crop
batch_size: {batch_size}
phases:
  - {{name: head, freeze: true, epochs: 3, lr: 2e-3}}            # the new head alone
  - {{name: finetune, epochs: 5, lr: [1e-5, 1e-3]}}              # all layers, early ones more slowly
techniques:                            # what each does when it is on
  normalize: {{stats: imagenet}}
  augment: {{}}
  mixup: {{alpha: 0.4, phases: [finetune]}}
  label_smoothing: {{eps: 0.1, phases: [finetune]}}
  tta: {{n: 4}}
  progressive_resizing: {{head: {{size: {small}, presize: {small_presize}}}}}
study:
  baseline: [normalize, augment]       # on in the reference
  vary: [mixup, label_smoothing, tta, progressive_resizing]    # each is tried against the reference
  seeds: 5                             # more seeds see smaller effects
  metric: accuracy                     # or balanced_accuracy, log_loss
  smallest_effect: 0.005               # the smallest difference that matters: half a point
"""


def write_recipe(source: Path, out: Path, force: bool) -> str:
    """Write a recipe for a folder of images or a CSV table.

    Args:
        source: A folder with one folder of images per class, or a CSV file.
        out: The recipe to write.
        force: Whether to replace a file that is there.

    Returns:
        What was written, what was found, and the next command.

    Raises:
        AblateError: There are no images, the source is missing, or `out` is there or cannot be written.
    """
    if out.exists() and not force:
        raise AblateError(f"{out}: is there already; --force replaces it, --out names another file.")
    if source.is_dir():
        data = _folder_lines(source)
    elif source.is_file():
        data = _table_lines(source, guess(source, read_columns(source)))
    else:
        raise AblateError(f"{source}: there is no such folder or table.")
    return _write(_recipe_name(source), data, out)


def _write(name: str, data: list[str], out: Path) -> str:
    """Write the recipe beside its place, try it, and only then put it there."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        try:
            draft.write_text(_text(name, data, 224, 64), encoding="utf-8")
            items = load_items(Recipe.load(draft).data)
            batch_size = 64 if len(items.items) >= 640 else 16
            draft.write_text(_text(name, data, _size(items), batch_size), encoding="utf-8")
            recipe = Recipe.load(draft)
            fold = make_folds(items, recipe.data)[0]
            os.replace(draft, out)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise AblateError(f"{out}: cannot be written ({error.strerror}).") from None
    counts = Counter(items.classes[item.target] for item in items.items)
    classes = ", ".join(f"{label} {count}" for label, count in counts.most_common(5))
    more = ", …" if len(counts) > 5 else ""
    columns = "".join(
        f", {line.split('  #')[0].strip()}" for line in data if line.startswith(("image:", "label:"))
    )
    return (
        f"{out}: a recipe for {len(items.items)} images in {len(counts)} classes ({classes}{more}), "
        f"{len(fold.train)} to train on and {len(fold.valid)} to validate on{columns}. "
        f"Next: ablate plan {out}"
    )


def _text(name: str, data: list[str], size: int, batch_size: int) -> str:
    return _TEMPLATE.format(
        name=_quoted(name),
        data="\n".join(f"  {line}" for line in data),
        size=size,
        presize=size * 8 // 7,
        small=size // 2,
        small_presize=size * 4 // 7,
        batch_size=batch_size,
    )


def _folder_lines(root: Path) -> list[str]:
    """The data section for a folder of class folders."""
    folders = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    classes = [
        folder for folder in folders if any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
    ]
    if classes and all(folder.name.lower() in _SIDES for folder in classes):
        raise AblateError(
            f"{root}: the folders {', '.join(folder.name for folder in classes)} are named by split, not by "
            f"class; name one of them, as in `ablate init {classes[0]}`."
        )
    if len(classes) < 2:
        tables = sorted(root.glob("*.csv"))
        hint = (
            f"for the table there: `ablate init {tables[0]}`" if tables else "such as cat/1.jpg and dog/1.jpg"
        )
        number = f"one folder with images, {classes[0].name}" if classes else "no folder with images"
        raise AblateError(f"{root}: has {number}, and needs one for each class, {hint}.")
    return [
        f"root: {_quoted(str(root.resolve()))}",
        "# one folder per class",
        "split: {random: 0.2, stratify: true, seed: 0}    # or {folds: 5}",
    ]


def _table_lines(table: Path, found: Guess) -> list[str]:
    """The data section for a CSV table."""
    column, folder, suffix = found.image
    image = [f"column: {_quoted(column)}"]
    image += [f"folder: {_quoted(folder)}"] if folder else []
    image += [f"suffix: {_quoted(suffix)}"] if suffix else []
    label = f"label: {{column: {_quoted(found.label)}}}"
    if found.other_labels:
        label += f"    # could be too: {', '.join(map(_quoted, found.other_labels[:5]))}"
    group = f", group: {_quoted(found.group)}" if found.group else ""
    if found.valid:
        split = f"split: {{column: {_quoted(found.valid)}{group}}}    # true is validation"
    else:
        together = f"; rows of one {found.group} stay on one side" if found.group else ""
        split = (
            f"split: {{random: 0.2, stratify: true{group}, seed: 0}}    # or {{folds: 5{group}}}{together}"
        )
    return [
        f"root: {_quoted(str(table.resolve().parent))}",
        f"table: {_quoted(table.name)}",
        f"image: {{{', '.join(image)}}}",
        label,
        split,
        *(
            [f"test: {{column: {_quoted(found.test)}}}    # true is for the winner's last score"]
            if found.test
            else []
        ),
    ]


def _size(items: Items) -> int:
    """A size that fits the images: 224, or less where they are smaller."""
    sides = []
    for item in items.items[:: max(1, len(items.items) // 20)]:
        try:
            with Image.open(str(item.image)) as image:
                sides.append(min(image.size))
        except (OSError, ValueError):  # `ablate check` tells about images that cannot be used
            continue
    side = statistics.median(sides) if sides else 224
    return 224 if side >= 192 else 128 if side >= 96 else 64


def _recipe_name(source: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", source.resolve().stem).strip("-._")
    return name[:100] or "study"


def _quoted(text: str) -> str:
    """Text as YAML, in quotes where it would not be read back as that text."""
    plain = re.fullmatch(r"[A-Za-z/_][\w./ -]*(?<! )", text) and text.lower() not in (
        "true",
        "false",
        "null",
        "",
    )
    return text if plain else json.dumps(text, ensure_ascii=False)
