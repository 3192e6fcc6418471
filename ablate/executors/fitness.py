"""Whether another machine can run the stages of a study: the same versions, the same data, the same store."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ablate.data.inspect import file_hash
from ablate.data.packs import Presized
from ablate.data.presize import Presize
from ablate.errors import AblateError
from ablate.executors.base import Needs
from ablate.study.graph import FoldData
from ablate.study.job import Job
from ablate.study.plan import versions


@dataclass(frozen=True)
class Token:
    """A file in a store, by which another machine knows that it sees the same one.

    Args:
        path: The file.
        text: What is in it.
    """

    path: Path
    text: str

    def write(self) -> None:
        """Write the file; the store's folders are there."""
        self.path.write_text(self.text)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Look whether this machine sees the file, and can write beside it.

        Raises:
            AblateError: It does not, or cannot.
        """
        store = self.path.parent.parent
        try:
            seen = self.path.read_text() == self.text
        except OSError:
            seen = False
        if not seen:
            raise AblateError(
                f"the stage store {store} is another folder there, or none; set ABLATE_STORE to a folder "
                "that all nodes share, or to a URL such as s3://bucket/stages."
            )
        # of this process alone: nodes that share the store look at the same time
        probe = self.path.with_name(f"{self.path.name}.{platform.node()}.{os.getpid()}")
        try:
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise AblateError(
                f"the stage store {store} cannot be written there ({error.strerror}); let the user that Ray "
                "runs as write to it."
            ) from None


def check_python(wanted: str) -> None:
    """Compare this Python's version with another, up to the minor number.

    Raises:
        AblateError: They differ.
    """
    found = platform.python_version()
    if found.split(".")[:2] != wanted.split(".")[:2]:
        raise AblateError(
            f"has Python {found}, and the study is run with {wanted}; install the same on both."
        )


def check_versions(wanted: dict[str, str]) -> None:
    """Compare the packages that a result depends on with those of the study.

    Raises:
        AblateError: One differs, or is not installed.
    """
    try:
        found = versions()
    except ModuleNotFoundError as error:  # importlib's PackageNotFoundError
        raise AblateError(f"has no {error.name}; install ablate there with what it needs.") from None
    for name, version in wanted.items():
        if found.get(name, version) != version:
            raise AblateError(
                f"has {name} {found[name]}, and the study is run with {version}, which gives other numbers; "
                "install the same on all nodes."
            )


def check_data(needs: Needs, note: Callable[[str], None]) -> dict[int, Presized]:
    """Look at the study's images from this machine and keep them presized in its own cache.

    What is in the cache is not looked at again, so nodes that share the folder share the work.

    Returns:
        The cached images by presize.

    Raises:
        AblateError: The data are not there, or are not the same.
    """
    from ablate.recipe.recipe import Recipe
    from ablate.study.prepare import prepare

    presizes = [Presize(shorter, quality) for shorter, quality in needs.presizes]
    recipe = Recipe.from_dict(dict(needs.recipe))
    prepared = prepare(recipe, quick=needs.quick, presizes=presizes, note=note)
    for wanted, found in zip(needs.identities, prepared.identities):
        _compare(wanted, found)
    return prepared.presized


def check_weights(job: Job) -> None:
    """Compare the file of initial weights with the one that the stage's key was made with.

    Raises:
        AblateError: It is another, or is not there.
    """
    for settings in job.settings.get("stages", [job.settings]):
        wanted = settings["model"]["weights"]
        if job.weights and wanted and file_hash(Path(job.weights)) != wanted:
            raise AblateError(
                f"model.weights: {job.weights} is another file there than where the study was begun; "
                "give all nodes the same file under the same path."
            )


def _compare(wanted: FoldData, found: FoldData) -> None:
    for side in ("train", "valid", "test"):
        if getattr(wanted, side) != getattr(found, side):
            raise AblateError(
                f"sees other data: the {side} images of fold {wanted.index} are not those of the study; give "
                "all nodes the same files under the same path."
            )
