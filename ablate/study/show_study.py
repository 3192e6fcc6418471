"""What a notebook shows of a study: its effects and report once it has any, and until then how far it is."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from ablate.errors import AblateError
from ablate.notebook_html import Part, to_html
from ablate.study.show_effects import effects_parts
from ablate.study.show_status import status_parts
from ablate.study.status import Status
from ablate.study.study import Study


def study_html(study: Study) -> str:
    """A study as HTML."""
    try:
        return to_html(*finished_parts(study) if study.seems_finished else status_parts(Status(study)))
    except AblateError as error:  # there is no plan, or tables have been taken away
        return to_html(str(error))


def finished_parts(study: Study) -> list[Part]:
    """The effects of a study, and a link to its report."""
    report = study.folder / "report.html"
    return [*effects_parts(study), *([_link(report)] if report.is_file() else [])]


def _link(report: Path) -> Markup:
    """Relative to the notebook, as far as it lies below: a page in a browser may not open files elsewhere."""
    here = Path.cwd()
    below = report.is_relative_to(here)
    target = quote(os.path.relpath(report, here)) if below else report.as_uri()
    shown = report.relative_to(here).as_posix() if below else report
    return Markup('<p>report: <a href="{}" target="_blank">{}</a></p>').format(target, shown)
