"""What notebooks show: the tables and sentences of the terminal as HTML, light or dark with the notebook."""

from __future__ import annotations

from markupsafe import Markup
from rich.table import Table

Part = Table | Markup | str

_STYLE = Markup(
    "<style>"
    ".ablate { max-width: 60rem; line-height: 1.45; overflow-wrap: anywhere; }"
    ".ablate > * { margin: .25rem 0 .75rem; }"
    ".ablate table { border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; }"
    ".ablate caption { caption-side: top; text-align: left; font-weight: 600; padding: .25rem 0; }"
    ".ablate th, .ablate td { text-align: left; vertical-align: top; white-space: normal; max-width: 34rem;"
    " padding: .2rem .9rem .2rem 0; border: 0;"
    " border-bottom: 1px solid color-mix(in srgb, currentColor 22%, transparent); }"
    ".ablate thead th { font-weight: 600; opacity: .75; }"
    ".ablate .wide { overflow-x: auto; }"
    ".ablate .problem { border-left: 3px solid #d55e00; padding-left: .6rem; }"
    ".ablate progress { width: 14rem; max-width: 40%; vertical-align: middle; }"
    ".ablate .muted { opacity: .75; }"
    "</style>"
)
"""Colours are those of the notebook's own text, and shades of them: no theme has to be known."""


def to_html(*parts: Part) -> str:
    """Tables and sentences, one under the other, as HTML that needs no scripts and no other files.

    Args:
        parts: Tables as a terminal gets them, sentences as plain text, or HTML that is safe already.
    """
    inside = Markup("").join(map(_part, parts))
    return str(Markup('<div class="ablate">{}{}</div>').format(_STYLE, inside))


def _part(part: Part) -> Markup:
    if isinstance(part, Table):
        return Markup('<div class="wide">{}</div>').format(_table(part))
    return part if isinstance(part, Markup) else Markup("<p>{}</p>").format(part)


def _table(table: Table) -> Markup:
    head = Markup("")
    if table.show_header:
        names = (Markup("<th>{}</th>").format(column.header) for column in table.columns)
        head = Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(names))
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = Markup("").join(map(_row, rows))
    caption = Markup("<caption>{}</caption>").format(table.title) if table.title else Markup("")
    return Markup("<table>{}{}<tbody>{}</tbody></table>").format(caption, head, body)


def _row(cells: tuple[object, ...]) -> Markup:
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))
