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
    if seconds < 90:
        return f"{_digits(seconds)} s"
    if seconds < 5400:
        return f"{_digits(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _digits(value: float) -> str:
    """Below 10 with a digit after the point, where it is not 0."""
    return f"{round(value, 1 if value < 10 else 0):g}"
