"""How numbers are written: estimates with their intervals, changes in percent, ranges, p values and counts.

The verdicts, the report, the figures' captions and the tables on the screen all take their words from here, so that one
number reads the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irepa.audit.statistics import Estimate


def estimate(of: Estimate, form: str = ".3g", unit: str = "") -> str:
    """A value and its 95% interval, ``0.42 [0.31, 0.55]``; the value alone where the interval is missing or a point.

    form: how each number is formatted, as in an f-string. unit: written after each number.
    """
    value, low, high = (f"{number:{form}}{unit}" for number in (of.value, of.low, of.high))
    bare = math.isnan(of.low) or math.isnan(of.high) or of.low == of.high
    return value if bare else f"{value} [{low}, {high}]"


def percentages(of: Estimate) -> str:
    """An estimate in percent: ``-10.0% [-12.1%, -8.0%]``."""
    return estimate(of, "+.1f", "%")


def correlation(of: Estimate) -> str:
    """A correlation as figures name it: ``r = -0.85 [-0.93, -0.70]``."""
    return f"r = {estimate(of, '.2f')}"


def percent(change: float) -> str:
    """A change in percent: -10.52 -> ``-10.5%``."""
    return f"{change:+.1f}%"


def percent_of_log(log_ratio: float) -> str:
    """The logarithm of a ratio as a change in percent: -0.105 -> ``-10.0%``."""
    return percent(100 * math.expm1(log_ratio))


def span(values: Iterable[float], form: str = ".2f") -> str:
    """The smallest and the largest of some numbers: ``-0.91 to -0.78``."""
    values = list(values)
    return f"{min(values):{form}} to {max(values):{form}}"


def p_value(p: float) -> str:
    """A p value with four decimals: ``0.0312``."""
    return f"{p:.4f}"


def plural(word: str, n: int) -> str:
    """The word as it stands after a number: ``seed`` for 1, else ``seeds``; ``families`` of ``family``."""
    if n == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"
