"""A number with its interval, and where its null lies, as the page shows them."""

from collections.abc import Callable

from analysis.artefact.schema import Measured, SpanDifference
from analysis.hypotheses.parts import Part
from analysis.report.marks import percent, three

__all__ = ["null_of", "percent_of", "range_of"]


def range_of(measured: Measured | SpanDifference | Part | None) -> str:
    """A value with its interval.

    Args:
        measured: The value; None where nothing was measured.

    Returns:
        For example "0.440 [0.400, 0.480]", or "n/a".
    """
    return _with_interval(measured, three)


def _with_interval(
    measured: Measured | SpanDifference | Part | None, shown: Callable[[float | None], str]
) -> str:
    if measured is None or measured.value is None:
        return "n/a"
    if measured.low is None or measured.high is None:
        return f"{shown(measured.value)} [no interval]"
    return f"{shown(measured.value)} [{shown(measured.low)}, {shown(measured.high)}]"


def null_of(measured: Measured | SpanDifference | Part | None) -> str:
    """Where the central 95 % of a value's null lies.

    Args:
        measured: The value; None where nothing was measured.

    Returns:
        For example "-0.040 to 0.040", "up to 0.180", or "n/a".
    """
    if measured is None or measured.null_high is None:
        return "n/a"
    low, high = measured.null_low, three(measured.null_high)
    return f"up to {high}" if low is None else f"{three(low)} to {high}"


def percent_of(share: Measured | None) -> str:
    """A share with its interval, as percentages.

    Args:
        share: The share; None where nothing was measured.

    Returns:
        For example "6.25 % [0.160 %, 30.2 %]", or "n/a".
    """
    return _with_interval(share, percent)
