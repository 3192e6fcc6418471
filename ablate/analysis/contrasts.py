"""What is compared with what: a contrast is a weight for each variant (standard library only)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ablate.errors import AblateError


@dataclass(frozen=True)
class Contrast:
    """A comparison of variants: the sum over variants of weight × metric.

    `weights` sum to 0, so that what all variants have in common cancels. A contrast that is not `primary` is
    exploratory: it gets no adjusted p-value. `unequal_epochs` flags variants that trained for different
    numbers of epochs. `aliases` names the effects that a fractional design cannot tell from this one: the sum
    stands for all of them together, each with its sign.

    Raises ValueError when the weights are all zero or do not sum to 0.
    """

    factor: str
    level: str
    name: str
    weights: dict[str, float] = field(hash=False)
    primary: bool = True
    unequal_epochs: bool = False
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.weights.values()) or abs(sum(self.weights.values())) > 1e-9:
            raise ValueError(
                f"the weights of contrast {self.name!r} must sum to 0 and not all be 0: {self.weights}"
            )

    @property
    def variants(self) -> list[str]:
        """The variants that count in it."""
        return [variant for variant, weight in self.weights.items() if weight]

    def to_dict(self) -> dict[str, Any]:
        """The contrast as plain JSON types, as `plan.json` keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Contrast:
        """The contrast that `to_dict` wrote."""
        return cls(**values | {"aliases": tuple(values.get("aliases", ()))})


def against_baseline(variants: list[str], baseline: str) -> list[Contrast]:
    """Each other variant minus the baseline, in the order given; for tables that come without a plan.

    Raises AblateError when the baseline is not one of the variants.
    """
    names = list(dict.fromkeys(variants))
    if baseline not in names:
        raise AblateError(
            f"There is no variant {baseline!r} to compare with; name one of these as the baseline: "
            f"{', '.join(map(str, names)) or '(the table is empty)'}."
        )
    return [
        Contrast(
            factor=str(name).removeprefix("baseline+"),
            level="on",
            name=f"{name} − {baseline}",
            weights={name: 1.0, baseline: -1.0},
        )
        for name in names
        if name != baseline
    ]
