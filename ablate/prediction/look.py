"""Look at the images before the first network does: decode each once, find those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ablate.data.cache import look_and_keep
from ablate.data.items import Progress
from ablate.data.packs import Presized
from ablate.data.presize import Presize
from ablate.errors import AblateError
from ablate.prediction.images import Images
from ablate.prediction.networks import Network
from ablate.study.prepare import bad_images

SHOWN = 10
"""So many images that cannot be used are told one by one."""


@dataclass(frozen=True)
class Looked:
    """Images that have been looked at.

    Args:
        images: All of them.
        usable: The numbers of those that can be predicted, int64 of shape (n,), sorted.
        presized: The cached ones, by presize; changes nothing but speed.
        skipped: Why others are left out, by id.
    """

    images: Images
    usable: np.ndarray
    presized: Mapping[int, Presized] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """What those that can be predicted are called."""
        return [self.images.items[number].id for number in self.usable.tolist()]

    @property
    def labels(self) -> list[str] | None:
        """Their classes' names, where a table tells them."""
        labels = self.images.labels
        return None if labels is None else [labels[number] for number in self.usable.tolist()]


def look_at(
    images: Images,
    networks: Sequence[Network],
    *,
    cached: bool = True,
    skip_bad: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Looked:
    """Decode every image in full, once for all networks where there is a cache.

    Args:
        images: The images.
        networks: What is going to predict them.
        cached: Whether presized images may be kept in the cache.
        skip_bad: Whether images that cannot be used are left out; else they are an error.
        progress: Told how many of the new images are done, and how many there are.
        note: Told what else a person wants to know.

    Raises:
        AblateError: Images cannot be used, or none can.
    """
    presizes = {Presize(own.settings["phase"]["presize"], own.settings.get("jpeg")) for own in networks}
    wanted = sorted(presizes, key=lambda presize: presize.shorter)
    looks, presized = look_and_keep(images.items, wanted if cached else [], progress=progress, note=note)
    bad = bad_images(images.items, looks, wanted)
    everything = np.arange(len(images.items))
    if not bad:
        return Looked(images, everything, presized)
    if not skip_bad:
        raise AblateError(_listed(list(bad.values()), len(images.items)))
    if len(bad) == len(images.items):
        raise AblateError(f"none of the {len(bad)} images can be used; the first: {next(iter(bad.values()))}")
    skipped = {images.items[number].id: why for number, why in bad.items()}
    return Looked(images, np.setdiff1d(everything, list(bad)), presized, skipped)


def _listed(reasons: list[str], total: int) -> str:
    shown = [f"  {reason}" for reason in reasons[:SHOWN]]
    if len(reasons) > SHOWN:
        shown.append(f"  … and {len(reasons) - SHOWN} more")
    first = f"{len(reasons)} of {total} images cannot be used; mend them, or leave them out with --skip-bad:"
    return "\n".join([first, *shown])
