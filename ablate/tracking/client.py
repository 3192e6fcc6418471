"""wandb's own client, set up so that a run can be gone on with and nothing is sent but what is said."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import wandb
from wandb.sdk.wandb_setup import singleton as setup

from ablate.files import replace_file

_NO_RECEIPT = b"json decode error"
"""What wandb's log says of an answer that was none; nothing else tells."""


class Client:
    """Opens runs.

    Args:
        folder: The study's: wandb's files go to its `wandb`.
        project: The project that the runs go to.
        entity: Whose that is; None for the key's own.
        offline: Whether only files are written.
    """

    def __init__(self, folder: Path, project: str, entity: str | None, offline: bool):
        self.folder, self.project, self.entity, self.offline = folder, project, entity, offline
        self._opening = threading.Lock()

    def open(self, **described: Any) -> wandb.Run:
        """Begin a run, or go on with it: wandb asks W&B which step was the last.

        Args:
            described: `id`, `name`, `job_type`, `group`, `tags`, `config` and `notes`, as of `wandb.init`.
        """
        extra = [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
        notes = [os.environ.get("WANDB_NOTES", ""), described.pop("notes")]
        tags = [tag[:64] for tag in dict.fromkeys([*described.pop("tags"), *extra])]
        settings = wandb.Settings(
            mode="offline" if self.offline else "online",
            root_dir=str(self.folder),
            init_timeout=30,
            console="off",
            silent=True,
            symlink=False,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_viewer=True,
            x_save_requirements=False,
        )
        name = described.pop("id")
        if not self.offline:
            self._drop(name)
        with self._opening:
            return wandb.init(
                id=self.ids(name)[-1],
                reinit="create_new",
                resume=None if self.offline else "allow",
                project=self.project,
                entity=self.entity,
                tags=tags,
                notes="\n\n".join(note for note in notes if note),
                settings=settings,
                **described,
            )

    def url_of(self, run: str) -> str | None:
        """Where people see a run, whether it is there yet or not; None offline."""
        if self.offline or self.entity is None:
            return None
        place = [setup().settings.app_url, quote(self.entity), quote(self.project)]
        return "/".join([*place, "runs", self.ids(run)[-1]])

    def took_nonsense(self, run: str) -> bool:
        """Whether wandb has taken an answer that was none for a receipt of rows, and gone on after them.

        Then rows may be lacking, and later ones be there. It is known until the run is opened again.
        """
        logs = (folder / "logs" / "debug-internal.log" for folder in self._folders(run))
        return any(_NO_RECEIPT in log.read_bytes() for log in logs if log.is_file())

    def ids(self, run: str) -> list[str]:
        """The ids that a run has had at W&B, the present one last."""
        gaps = self._gaps(run)
        left = int(gaps.read_text()) if gaps.is_file() else 0
        return [run, *(f"{run}-{number}" for number in range(1, left + 1))]

    def renew(self, run: str) -> None:
        """Have a run begin anew under another id: what W&B has of it cannot be gone on with."""
        left = len(self.ids(run))
        replace_file(self._gaps(run), lambda to: to.write_text(str(left)))

    def settle(self, run: str, written: wandb.Run) -> None:
        """Remove what is not needed once a run was sent whole: offline, what was written of it before."""
        self._drop(run, but=Path(written.dir).parent if self.offline else None)

    def _gaps(self, run: str) -> Path:
        return self.folder / "wandb" / "gaps" / run

    def _folders(self, run: str) -> list[Path]:
        """wandb's own folders of a run, whichever id it had."""
        return list((self.folder / "wandb").glob(f"*run-*-{run}*"))

    def _drop(self, run: str, but: Path | None = None) -> None:
        for path in self._folders(run):
            if path != but:
                shutil.rmtree(path, ignore_errors=True)
