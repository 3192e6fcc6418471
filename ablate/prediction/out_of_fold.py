"""Out-of-fold predictions, for stacking: what a study predicted of images that it had not trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ablate.analysis.names import MOST_CLASSES
from ablate.analysis.predicted import probability_columns
from ablate.errors import AblateError
from ablate.prediction.networks import choose_variant
from ablate.study.study import Study


def out_of_fold(study: Study, variant: str | None = None) -> tuple[pd.DataFrame, str]:
    """What a study's networks predicted of images that they were not trained on, the mean over seeds.

    Args:
        study: The study; its tables are enough.
        variant: Its name; default the only or best one.

    Returns:
        A row per item: `item`, `fold`, `target` (the class's name), `label`, `p_<class>` for each class; and
        a sentence about it for people.

    Raises:
        AblateError: There are no such predictions, or not of all classes.
    """
    chosen, why = choose_variant(study, variant)
    classes = study.plan["classes"]
    if len(classes) > MOST_CLASSES:
        raise AblateError(
            f"{study.folder}: only the most probable of its {len(classes):,} classes are kept, which have no "
            "mean over seeds; predictions.parquet has them by seed."
        )
    table = study.predictions()
    table = table[(table.variant == chosen) & (table.split == "valid")]
    if not len(table):
        raise AblateError(f"{study.folder}: no trial of {chosen} has predicted a validation split.")
    columns = probability_columns(table)
    by_item = table.groupby(["fold", "item"], sort=False)
    means = by_item[columns].mean()
    names = np.array(classes, dtype=object)
    found = pd.DataFrame(
        {
            "item": means.index.get_level_values("item"),
            "fold": means.index.get_level_values("fold"),
            "target": names[by_item["target"].first().to_numpy()],
            "label": names[means.to_numpy().argmax(1)],
        }
    )
    found = pd.concat(
        [found, means.reset_index(drop=True).set_axis([f"p_{name}" for name in classes], axis=1)], axis=1
    )
    seeds, folds = table.seed.nunique(), table.fold.nunique()
    note = f"{why}: out-of-fold predictions, the mean over {seeds} seed" + ("s" if seeds > 1 else "")
    if folds == 1:
        note += "; the study has no folds, so they are of its validation split alone"
    return found, note
