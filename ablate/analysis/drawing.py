"""How figures are drawn and written as SVG; no pyplot, so no global state."""

from __future__ import annotations

import re
import warnings
from io import StringIO
from itertools import cycle

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1b1f24"
"""Text and lines. On a page it becomes the page's own text colour, light or dark."""
FONT = 11
WIDTH = 5.0
"""Inches: 360 points, so that on a phone text keeps its size."""
# Okabe & Ito's colours, told apart by colour-blind readers too
CYCLE = [INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800"]
LINES = ["-", "--", ":", "-."]


class StudyFigure(Figure):
    """A figure that notebooks show as SVG."""

    def _repr_svg_(self) -> str:
        return svg(self)


def new_figure(height: float) -> tuple[StudyFigure, Axes]:
    """A narrow figure with one quiet pair of axes; `height` in inches."""
    figure = StudyFigure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.grid(axis="both", color=INK, alpha=0.12, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=FONT)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=FONT)
    return figure, axes


def styles(names: list[str]) -> dict[str, tuple[str, str]]:
    """A colour and a line style for each name, the same in all figures of a study."""
    return dict(zip(names, cycle((color, line) for line in LINES for color in CYCLE), strict=False))


def literal(text: str, longest: int = 1000) -> str:
    """Text that is no mathematics, however many dollars it has, and not longer than that."""
    text = " ".join(text.split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def legend_below(figure: Figure, axes: Axes) -> None:
    """Names under the axes, where they hide nothing; the figure grows with them."""
    lines = axes.get_lines()
    if not lines:
        return
    labels = [str(line.get_label()) for line in lines]
    columns = 2 if max(map(len, labels)) <= 24 and len(labels) > 1 else 1
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * rows)
    figure.legend(
        lines, labels, loc="outside lower left", ncols=columns, fontsize=FONT, frameon=False, labelcolor=INK
    )


def svg(figure: Figure, transparent: bool = False) -> str:
    """A figure as SVG text: the same bytes each time, with its words kept as text."""
    out = StringIO()
    settings = {"svg.hashsalt": "ablate", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # the browser has the letters that are missing here
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=transparent)
    return out.getvalue()


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """A figure as a part of a page: transparent, in the page's font and text colour, with unique ids.

    Args:
        figure: What to draw.
        name: What its ids begin with.
        description: What it shows, for those who do not see it.
    """
    text = svg(figure, transparent=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|defs)>\s*(<rdf|<style).*?</\1>", "", text, count=2, flags=re.S)
    view = re.search(r'viewBox="[^"]*"', text)
    body = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], name), text.split(">", 1)[1])
    label = escape(description)
    return Markup(f'<svg {view[0] if view else ""} role="img" aria-label="{label}">{body}')


def _for_page(tag: str, name: str) -> str:
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'(url\(|href=")#', rf"\1#{name}-", tag).replace("xlink:href", "href")
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag).replace(INK, "currentColor")
