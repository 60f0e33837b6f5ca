"""From the numbers of several seeds to a table, and to what may be said of them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student

__all__ = ["Numbers", "compared", "spread", "table", "verdicts"]

Numbers = Mapping[str, Sequence[float]]
"""Values of each number, one a seed."""
JUDGED = ("matched_share", "f1")
"""What this project's default is to be at least equal to the best peer in."""
COLUMNS = {
    "matched_share": "share ≥ .9",
    "matched_cosine": "cosine",
    "f1": "F1",
    "f1_matched": "F1 ≥ .9",
    "f1_parents": "F1 parents",
    "fvu": "FVU",
    "l0": "L0",
    "dead_share": "dead",
    "agreement": "agreement",
}
CONFIDENCE = 0.95


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (None of fewer than two) and all values; None for what is NaN."""
    known = [each for each in values if not math.isnan(each)]
    return {
        "mean": round(statistics.mean(known), 5) if known else None,
        "sd": round(statistics.stdev(known), 5) if len(known) > 1 else None,
        "each": [None if math.isnan(each) else round(each, 5) for each in values],
    }


def table(everyone: Mapping[str, Numbers]) -> str:
    """One row a contestant, mean ± standard deviation."""
    lines = [f"{'':24s}" + "".join(f"{title:>15s}" for title in COLUMNS.values())]
    for who, numbers in everyone.items():
        cells = "".join(f"{_cell(numbers[name]):>15s}" for name in COLUMNS)
        lines.append(f"{who:24s}{cells}")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    found = spread(values)
    if found["mean"] is None:
        return "-"
    digits = 1 if found["mean"] >= 2 else 3
    shown = f"{found['mean']:.{digits}f}"
    return shown if found["sd"] is None else f"{shown} ±{found['sd']:.{digits}f}"


def compared(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Difference of means and its 95 % interval over seeds.

    Welch's interval: spreads need not be equal. Seeds are those of a fit, the world is one.

    Args:
        ours: One value a seed.
        theirs: Likewise.

    Returns:
        Difference, lower and upper limit; limits are infinite with fewer than two seeds on a side.

    Example:
        >>> difference, low, high = compared([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        >>> difference, round(low, 2), round(high, 2)
        (0.0, -2.27, 2.27)
    """
    difference = statistics.mean(ours) - statistics.mean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return difference, -math.inf, math.inf
    parts = [(statistics.variance(each) / len(each), len(each) - 1) for each in (ours, theirs)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return difference, difference, difference
    freedom = total**2 / sum(part**2 / n for part, n in parts)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(total)
    return difference, difference - reach, difference + reach


def verdicts(everyone: Mapping[str, Numbers], ours: str, peers: Sequence[str]) -> list[str]:
    """For each number judged, a sentence: ours against the peer's kind that is best in it.

    Args:
        everyone: Numbers by `peer/kind`.
        ours: The contestant to judge.
        peers: Whom to hold it against.
    """
    others = [who for who in everyone if who.partition("/")[0] in peers]
    if ours not in everyone or not others:
        return ["no verdict: it takes this project's default and a peer"]
    said = []
    for name in JUDGED:
        best = max(others, key=lambda who: statistics.mean(everyone[who][name]))
        difference, low, high = compared(everyone[ours][name], everyone[best][name])
        word = "above" if difference > 0 else "equal" if difference == 0 else "BELOW"
        if math.isinf(low):
            word += ", and one seed cannot tell seed noise"
        else:
            word += ", inside seed noise" if low <= 0 <= high else ", outside seed noise"
        said.append(
            f"{name}: {ours} {statistics.mean(everyone[ours][name]):.3f}, best peer {best} "
            f"{statistics.mean(everyone[best][name]):.3f}, difference {difference:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]: {word}"
        )
    return said
