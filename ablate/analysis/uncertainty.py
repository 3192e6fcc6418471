"""How sure a mean is whose variance has two parts, one of seeds and one of items.

Light: scipy.special alone, so that planning can use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Uncertainty:
    """A variance seed + item, and the degrees of freedom with which each part was estimated.

    Errors are taken as Student's t with Satterthwaite's degrees of freedom (Biometrics Bulletin 1946), but
    never as smaller than those of the seeds' part alone with its own: what holds for new seeds and new items
    cannot be surer than what holds for new seeds. Without that, a part of few seeds that is small by chance
    makes the degrees of freedom large: with three seeds 95% intervals then hold 93% of the time, and p < 0.01
    comes three times too often. With it levels are right to a fourth from five seeds on, and safe with fewer
    (`benchmarks/calibration.py`).
    """

    seed: float
    df_seed: float
    item: float = 0.0
    df_item: float = 1.0

    @property
    def se(self) -> float:
        """The standard error."""
        return math.sqrt(self.seed + self.item)

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of the standard error, at least 1."""
        if self.seed == 0 or self.item == 0:
            return self.df_seed if self.item == 0 else self.df_item
        spread = self.seed**2 / self.df_seed + self.item**2 / self.df_item
        return max((self.seed + self.item) ** 2 / spread, 1.0)

    def half_width(self, confidence: float) -> float:
        """How far the confidence interval reaches to either side."""
        from scipy.special import stdtrit

        quantile = (1 + confidence) / 2
        return max(
            self.se * float(stdtrit(self.df, quantile)),
            math.sqrt(self.seed) * float(stdtrit(self.df_seed, quantile)),
        )

    def p_value(self, distance: float) -> float:
        """The probability of an error of at least `distance` ≥ 0 in either direction.

        Without uncertainty it is 1 for a distance of 0 and 0 for any other.
        """
        from scipy.special import stdtr

        if self.se == 0:
            return 1.0 if distance == 0 else 0.0
        alone = 2 * float(stdtr(self.df_seed, -distance / math.sqrt(self.seed))) if self.seed else 0.0
        return max(2 * float(stdtr(self.df, -distance / self.se)), alone)
