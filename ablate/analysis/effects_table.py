"""How a notebook shows effects: a table for people, that is still a DataFrame."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from rich.table import Table

from ablate.analysis.names import shown_in, title
from ablate.analysis.wording import interval, signed
from ablate.notebook_html import to_html


class EffectsTable(pd.DataFrame):
    """The columns of `effects.csv`; a notebook shows what is compared, effect, interval and verdict.

    What is computed from it is a plain DataFrame, and shown as one.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        tables = [_table(pd.DataFrame(self), metric) for metric in dict.fromkeys(self["metric"])]
        return to_html(*tables) if tables else to_html("no comparison")


def _table(effects: pd.DataFrame, metric: str) -> Table:
    rows = effects[effects["metric"] == metric]
    primary = bool(rows["primary"].any())
    unit = shown_in(metric)[1]
    difference = f"difference, {unit}" if unit else "difference"
    table = Table("comparison", difference, "interval", "seeds", "verdict")
    table.title = f"Effects on {title(metric)}" + ("" if primary else " (exploratory)")
    for row in rows.to_dict("records"):
        table.add_row(
            row["contrast"],
            signed(row["effect"], metric),
            interval(row["ci_low"], row["ci_high"], metric),
            str(row["n_seeds"]),
            row["verdict"] + (" (exploratory)" if primary and not row["primary"] else ""),
        )
    return table
