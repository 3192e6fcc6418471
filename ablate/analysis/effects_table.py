"""How a notebook shows effects: a table for people, that is still a DataFrame."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from markupsafe import Markup, escape

from ablate.analysis.names import shown_in, title
from ablate.analysis.wording import interval, signed


class EffectsTable(pd.DataFrame):
    """The columns of `effects.csv`; a notebook shows what is compared, effect, interval and verdict.

    What is computed from it is a plain DataFrame, and shown as one.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        parts = [_table(pd.DataFrame(self), metric) for metric in dict.fromkeys(self["metric"])]
        return str(Markup("<div>{}</div>").format(Markup("").join(parts) if parts else "no comparison"))


def _table(effects: pd.DataFrame, metric: str) -> Markup:
    rows = effects[effects["metric"] == metric]
    primary = bool(rows["primary"].any())
    unit = shown_in(metric)[1]
    heading = f"Effects on {title(metric)}" + ("" if primary else " (exploratory)")
    header = (
        "comparison",
        f"difference, {unit}" if unit else "difference",
        "interval",
        "seeds",
        "verdict",
    )
    head = Markup("").join(Markup("<th>{}</th>").format(cell) for cell in header)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))
        for cells in (
            (
                row["contrast"],
                signed(row["effect"], metric),
                interval(row["ci_low"], row["ci_high"], metric),
                row["n_seeds"],
                row["verdict"] + (" (exploratory)" if primary and not row["primary"] else ""),
            )
            for row in rows.to_dict("records")
        )
    )
    table = Markup("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
    return table.format(escape(heading), head, body)
