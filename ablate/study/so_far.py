"""The scores that a running study has so far, as a table that grows."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import Any

from rich.table import Table

from ablate.analysis.names import shown_in, title


class SoFar:
    """Scores by variant, each of one prediction."""

    def __init__(self) -> None:
        self.scores: dict[str, list[float]] = defaultdict(list)
        self.metric = "accuracy"

    def __bool__(self) -> bool:
        return bool(self.scores)

    def add(self, scores: dict[str, Any]) -> None:
        """Take up what `Study.scores` tells of a prediction."""
        for variant in scores.get("variants", ()):
            self.metric = scores["metric"]
            self.scores[variant].append(scores["score"])

    def table(self) -> Table:
        """The mean of each variant."""
        factor, unit, digits = shown_in(self.metric)
        heading = f"{title(self.metric)}, {unit}"
        table = Table("variant", "seeds", heading, title="so far", title_justify="left", show_edge=False)
        for variant, values in self.scores.items():
            table.add_row(variant, str(len(values)), f"{factor * mean(values):.{digits}f}")
        return table
