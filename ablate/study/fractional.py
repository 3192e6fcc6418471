"""Fractional factorial designs of factors with two levels: which runs, and what they cannot tell apart.

A design of k factors in 2^m runs has m basic factors in all combinations; every other factor follows the
product of some of these. A factor is a column: a bit for each basic factor in its product. Columns that add
up to zero, modulo 2, are a word of the defining relation, and the length of the shortest word is the
resolution (Box & Hunter, Technometrics 1961): at III a main effect may be mixed up with a two-factor
interaction, at IV only two-factor interactions with each other, at V neither.

The columns are searched here, the runs are made by pyDOE3. Its own search by resolution does not keep its
promise where two products have most factors in common (10 factors "at V" come in 32 runs, at IV), and its
exhaustive search takes hours for a dozen factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb
from string import ascii_lowercase
from typing import NamedTuple

MOST_BASIC = 13
"""No design has more runs than two to the power of this."""
_PATIENCE = 400_000
"""How many sums a search may work out: a fraction of a second."""


@dataclass(frozen=True)
class TwoLevelDesign:
    """A design, by the column of each factor; the basic factors come first."""

    basic: int
    columns: tuple[int, ...]

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return 2**self.basic

    @property
    def resolution(self) -> int | None:
        """The length of the shortest word; None for a full factorial, which has no words."""
        sums, lengths = _Sums.of_basic(self.basic), []
        for column in self.columns[self.basic :]:
            lengths.append(sums.fewest[column] + 1)
            sums = sums.with_column(column)
        return min(lengths, default=None)

    @property
    def generators(self) -> str:
        """The design as pyDOE3 takes it, such as `a b c -ab`.

        An even product gets a minus, so that all factors are at their first level together in the first run.
        Signs change neither resolution nor what is aliased with what.
        """
        words = [
            "".join(letter for bit, letter in enumerate(ascii_lowercase) if column >> bit & 1)
            for column in self.columns
        ]
        return " ".join(word if len(word) % 2 else f"-{word}" for word in words)

    def signs(self) -> list[tuple[int, ...]]:
        """The runs: for each factor −1, its first level, or 1. All are −1 in the first run."""
        from pyDOE3 import fracfact  # takes half a second, which other designs need not wait for

        return [tuple(int(sign) for sign in row) for row in fracfact(self.generators)]


@cache
def by_resolution(factors: int, resolution: int) -> TwoLevelDesign:
    """The fewest runs that have a resolution (3 or more), and the most that can be had in so many.

    Too few factors for that get all their combinations. Raises ValueError where the runs would be too many.
    """
    for basic in range(1, min(factors - 1, MOST_BASIC) + 1):
        if _search(basic, factors, resolution):
            return by_runs(factors, 2**basic)
    if factors > MOST_BASIC:
        raise ValueError(
            f"{factors} factors take more than {2**MOST_BASIC} variants at resolution {roman(resolution)}; "
            "vary fewer, or take a lower resolution."
        )
    return _full(factors)


@cache
def by_runs(factors: int, runs: int) -> TwoLevelDesign:
    """The highest resolution in no more than so many runs. Raises ValueError where none reaches III."""
    basic = min(runs.bit_length() - 1, MOST_BASIC)
    if basic >= factors:
        return _full(factors)
    for resolution in range(basic + 1, 2, -1):
        if columns := _search(basic, factors, resolution):
            return TwoLevelDesign(basic, columns)
    raise ValueError(
        f"{runs} is too few variants to tell the effects of {factors} factors apart; the least is "
        f"{2 ** factors.bit_length()}, at resolution III."
    )


def roman(number: int) -> str:
    """A resolution as it is written, up to 39: IV."""
    tens, ones = divmod(number, 10)
    return "X" * tens + ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")[ones]


def _full(factors: int) -> TwoLevelDesign:
    return TwoLevelDesign(factors, tuple(1 << bit for bit in range(factors)))


class _Sums(NamedTuple):
    """For every vector, the fewest columns that add up to it, and in how many ways so few do."""

    fewest: list[int]
    ways: list[int]

    @classmethod
    def of_basic(cls, basic: int) -> _Sums:
        """Of the basic factors alone, each vector is the sum of its own bits."""
        return cls([vector.bit_count() for vector in range(2**basic)], [1] * 2**basic)

    def with_column(self, column: int) -> _Sums:
        """The same with one column more."""
        fewest, ways = [], []
        for vector, (old, count) in enumerate(zip(self.fewest, self.ways)):
            new = self.fewest[vector ^ column] + 1
            fewest.append(min(old, new))
            ways.append((old <= new) * count + (new <= old) * self.ways[vector ^ column])
        return _Sums(fewest, ways)


def _search(basic: int, factors: int, resolution: int) -> tuple[int, ...] | None:
    """Columns of which no word is shorter than the resolution, and few are no longer; None if none are found.

    Columns are added depth first. By the order of the candidates the first complete set is a good one; the
    patience that is left goes into sets with fewer of the shortest words, that is with fewer aliases.
    """
    if not _may_exist(basic, factors, resolution):
        return None
    candidates, own = _candidates(basic), tuple(1 << bit for bit in range(basic))
    best, least, patience = None, None, max(_PATIENCE >> basic, 2 * factors)
    path = [(own, _Sums.of_basic(basic), 0, 0)]
    while path and patience:
        columns, sums, words, start = path.pop()
        if len(columns) == factors:
            best, least = columns, words
            continue
        for number in range(start, len(candidates)):
            column = candidates[number]
            shortest = sums.fewest[column] + 1
            more = words + (sums.ways[column] if shortest == resolution else 0)
            if shortest >= resolution and (least is None or more < least):
                path.append((columns, sums, words, number + 1))
                path.append(((*columns, column), sums.with_column(column), more, number + 1))
                patience -= 1
                break
    return best


def _candidates(basic: int) -> list[int]:
    """All products of basic factors; the odd ones first: they alone never make a word of three."""
    products = [vector for vector in range(2**basic) if vector.bit_count() > 1]
    odd = [product for product in products if product.bit_count() % 2]
    even = [product for product in products if product.bit_count() % 2 == 0]
    return sorted(odd, key=int.bit_count) + sorted(even, key=int.bit_count, reverse=True)


def _may_exist(basic: int, factors: int, resolution: int) -> bool:
    """Whether so few runs can be enough at all: Rao's bound (J R Stat Soc Suppl 1947)."""
    even = resolution % 2 == 0
    sums = sum(comb(factors - even, size) for size in range((resolution - even - 1) // 2 + 1))
    return sums <= 2 ** (basic - even)
