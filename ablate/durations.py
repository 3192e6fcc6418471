"""Times in words."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """To the second: `2 h 05 min`, `3 min 20 s`, `12 s`; `…` where it is not known."""
    if seconds is None:
        return "…"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def about(seconds: float) -> str:
    """In one unit, two digits or so: `7.3 s`, `12 s`, `1.7 min`, `21 min`, `7.5 h`, `12 days`."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1.5:
        return f"{seconds:.2g} s"
    if hours < 1.5:
        return f"{minutes:.2g} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
