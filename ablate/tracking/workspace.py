"""`ablate report --wandb`: saves a W&B report and a saved view of a study; `pages` says what they show."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.errors import AblateError
from ablate.files import replace_file
from ablate.tracking import pages
from ablate.tracking.described import Described
from ablate.tracking.notes import FOLDER, Notes
from ablate.tracking.service import Account, Problem, Service, as_problem, find_account

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace


def write_pages(folder: Path) -> tuple[str, str]:
    """Write the W&B report and the saved view of a study; those that were written before are replaced.

    Args:
        folder: The study's.

    Returns:
        The addresses of the report and of the view.

    Raises:
        AblateError: wandb-workspaces is not installed, W&B cannot be reached or refuses, or it has not been
            told of the study.
    """
    try:
        import wandb
        import wandb_workspaces.workspaces  # noqa: F401
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    except ImportError:
        raise AblateError(
            "--wandb: needs the package wandb-workspaces; `pip install 'ablate[workspaces]'`."
        ) from None
    try:
        study = _described(folder)
        account = _account(folder, study)
    except Problem as problem:
        raise AblateError(f"W&B: {problem}.") from None
    shown = pages.Shown.read(folder, study)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # wandb tells there what it has saved
            return _save(folder, shown, account)
    except (wandb.Error, WandbApiFailedError, ValueError) as error:
        raise AblateError(
            f"W&B: {as_problem(error)}; `ablate report {folder} --wandb` tries it again."
        ) from None


def _described(folder: Path) -> Described:
    if not (folder / FOLDER / "id").is_file():
        raise _unknown(folder)
    return Described(folder, Notes(folder).id)


def _account(folder: Path, study: Described) -> Account:
    """Who writes, and where to, with an entity; it was asked whether it is there and knows the study."""
    account = find_account()
    if account is None:
        raise Problem("there is no API key; run `wandb login` or set WANDB_API_KEY")
    service = Service(account)
    entity = service.viewer()[0]
    account = replace(account, entity=account.entity or entity)
    if account.entity is None:
        raise Problem(f"{account.url} does not tell whose the API key is; set WANDB_ENTITY")
    if service.lines(account.entity, account.project, study.study_id) == 0:
        raise _unknown(folder)
    return account


def _unknown(folder: Path) -> AblateError:
    return AblateError(f"{folder}: W&B has not been told of this study; `ablate sync {folder}` tells it.")


def _save(folder: Path, shown: pages.Shown, account: Account) -> tuple[str, str]:
    """Write both pages, over those that were written before, and remember them."""
    entity, project = account.entity or "", account.project
    file = folder / FOLDER / "pages.json"
    written = json.loads(file.read_text()) if file.is_file() else {}
    place = f"{account.url} {entity}/{project}"
    known = written.get(place, {"report": "", "view": ""})
    report = _save_report(pages.report(shown, entity, project), known["report"])
    view = _save_view(pages.view(shown, entity, project), known["view"])
    written[place] = {"report": report.id, "view": view.url}
    replace_file(file, lambda to: to.write_text(json.dumps(written, indent=1)))
    return report.url, view.url


def _save_report(report: Report, known: str) -> Report:
    """Save a report in the place of the one that has this id; as a new one if that is gone."""
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    if known:
        report.id = known
        with contextlib.suppress(WandbApiFailedError):
            return report.save()
        report.id = ""
    return report.save()


def _save_view(view: Workspace, known: str) -> Workspace:
    """Save a view in the place of the one at this address; as a new one if that is gone."""
    if known:
        with contextlib.suppress(ValueError):
            there = type(view).from_url(known)
            there.name, there.sections = view.name, view.sections
            there.settings, there.runset_settings = view.settings, view.runset_settings
            return there.save()
    return view.save()
