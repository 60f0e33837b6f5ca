"""The comparisons that claims are made of, each above 0 where its claim holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from analysis.artefact.schema import SpanDifference, Summary
from analysis.hypotheses.arms import Arms
from analysis.statistics.intervals import Interval
from sae.errors import InputError

__all__ = [
    "MATCHED",
    "Part",
    "Read",
    "Word",
    "apart",
    "evidence_of",
    "is_matched",
    "is_refuted",
    "matched",
    "require_learned",
    "share_of",
    "verdict_of",
]

Word = Literal["supported", "refuted", "undecided"]
"""What is said of a comparison."""

N_LIKE = 10
"""Latents that are no persona's beside each that is, those that fire most nearly as often."""
LEAST_OWN = 3
"""Labelled latents from which an interval is one over them: of one all resamples are alike."""
N_DRAWS = 2000
LEVEL = 0.05
MATCHED = 1.5
"""Ratio of two KL up to which they are matched."""


@dataclass(frozen=True, eq=False)
class Read:
    """A trace that claims are judged from."""

    summary: Summary
    """`summary.json`."""
    fates: pd.DataFrame
    """`fates.parquet`."""
    arms: Arms = Arms()
    """What its tuned models are called."""
    model: str = ""
    """SHA-256 of its base model, or of that one's cache; the organism's seed stands for it where it
    is not known. Other files are another base model: that these are no copies or checkpoints of one
    is for whoever gives the traces to say."""

    @property
    def base(self) -> str:
        """Which base model it is of."""
        return self.model or str(self.summary.seeds.get("organism"))


@dataclass(frozen=True)
class Part:
    """A comparison, its 95 % interval and, where it has one, the central 95 % of its null.

    Claims move a null that does not lie at 0 there, and the comparison with it (`centred`), but for
    differences of two arms, from each of which its own mean over random spans is taken already.
    """

    about: str
    """What is compared."""
    value: float
    """The estimate: above 0 where the claim holds."""
    low: float
    """Lower limit of the interval."""
    high: float
    """Upper limit of the interval."""
    null_low: float | None = None
    """Lower end of the null."""
    null_high: float | None = None
    """Upper end of the null."""
    df: int | None = None
    """Degrees of freedom of an interval that is Student's over base models."""
    most: float | None = None
    """The largest value there can be: where bases reach it, how they differ is hardly seen."""

    @property
    def p_value(self) -> float | None:
        """Two-sided chance of a mean as far above 0, and above the middle of its null, the larger.

        Below .05 just where the interval, and what its null reaches, are below the estimate. 1
        where it is not above. None without `df`.
        """
        if self.df is None:
            return None
        reach = np.float64(self.value - self.low)
        if not self.value > 0 or np.isnan(reach):
            return 1.0
        with np.errstate(divide="ignore"):
            p = 2 * stats.t.sf(self.value / reach * stats.t.ppf(0.975, self.df), self.df)
            if self.null_low is not None and self.null_high is not None:
                middle = (self.null_low + self.null_high) / 2
                far = (self.value - middle) / np.float64(self.null_high - middle)
                p = max(p, 2 * stats.norm.sf(far * stats.norm.ppf(0.975)))
        return float(min(p, 1.0))

    @property
    def p_against(self) -> float | None:
        """As `p_value`, of a mean as far below 0 and below its null; None without `df`."""
        ends = self.null_high, self.null_low
        start, end = (None if each is None else -each for each in ends)
        mirrored = Part(self.about, -self.value, -self.high, -self.low, start, end, self.df)
        return mirrored.p_value

    def null(self) -> tuple[float, float]:
        """Both ends of its null.

        Raises:
            InputError: It lacks one, and so nothing is known of what chance gives.
        """
        if self.null_low is None or self.null_high is None:
            raise InputError(self.about, "no null beside it", "trace it with a null")
        return self.null_low, self.null_high

    def centred(self) -> "Part":
        """The same beyond the middle of its null.

        Raises:
            InputError: It has no null.
        """
        start, end = self.null()
        middle = (start + end) / 2
        value, low, high = (each - middle for each in (self.value, self.low, self.high))
        most = None if self.most is None else self.most - middle
        return Part(self.about, value, low, high, start - middle, end - middle, self.df, most)


def verdict_of(part: Part) -> Word:
    """Whether the interval lies on one side of 0, and the estimate beyond the null there.

    Args:
        part: The comparison.

    Example:
        >>> verdict_of(Part("a", 0.2, 0.1, 0.3, -0.05, 0.25))
        'undecided'
    """
    low = -np.inf if part.null_high is None else part.null_high
    high = np.inf if part.null_low is None else part.null_low
    if part.low > 0 and part.value > low:
        return "supported"
    return "refuted" if part.high < 0 and part.value < high else "undecided"


def is_refuted(part: Part, n_parts: int) -> bool:
    """Whether a comparison refutes its claim, corrected for how many might have.

    Args:
        part: The comparison.
        n_parts: Of its claim: any one refutes it, where all must speak for it.
    """
    p = part.p_against
    return verdict_of(part) == "refuted" and (p is None or p * n_parts <= LEVEL)


def is_matched(row: SpanDifference) -> bool:
    """Whether both arms of a pair moved about as far, or nobody measured how far."""
    return len(row.kl) < 2 or max(row.kl) <= MATCHED * min(row.kl)


def matched(
    table: pd.DataFrame,
    values: pd.Series,
    about: str,
    middle: Callable[..., np.floating],
    label: str = "persona",
) -> Part:
    """Labelled latents less their likes in rate; the null gives the label's place to a like.

    Latents are resampled, labelled ones and likes, for a like may stand beside several.

    Args:
        table: Rows of `fates.parquet` of one tuned model, with n_fires.
        values: What is compared, a row each.
        about: What it is.
        middle: Mean or median.
        label: persona, or dialect, whose latents carry no persona; likes carry neither.
    """
    if bool(table["n_fires"].isna().any()):
        raise InputError(about, "latents without n_fires", "trace again")
    labels = [column for column in ("persona", "dialect") if column in table]
    none = table[labels].isna().all(axis=1)
    mine = table[label].notna() & (table["persona"].isna() if label == "dialect" else True)
    own, rest = np.flatnonzero(mine), np.flatnonzero(none)
    if len(own) < LEAST_OWN or len(rest) <= N_LIKE:
        found = f"{len(own)} {label} latents and {len(rest)} others with a fate"
        raise InputError(about, found, f"trace more: at least {LEAST_OWN} and {N_LIKE + 1}")
    rate = np.log(table["n_fires"].to_numpy(float).clip(1))
    like = rest[np.argsort(np.abs(rate[own][:, None] - rate[rest]), axis=1, kind="stable")]
    like = like[:, :N_LIKE]
    x = values.to_numpy(float)
    theirs = x[like]
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(own), size=(N_DRAWS, len(own)))
    beside = x[own] - _resampled(theirs, like, middle is np.median, rng)
    both = middle(np.take_along_axis(beside, drawn, axis=1), axis=1)
    low, high = np.quantile(both, [0.025, 0.975])
    each = [theirs[:, i] - middle(np.delete(theirs, i, 1), axis=1) for i in range(N_LIKE)]
    stand = np.stack(each)[rng.integers(N_LIKE, size=drawn.shape), np.arange(len(own))]
    spreads = [np.quantile(s, [0.025, 0.5, 0.975]) for s in (middle(stand, 1), middle(beside, 1))]
    down, up = (np.hypot(*(abs(s[end] - s[1]) for s in spreads)) for end in (0, 2))
    value, centre = float(middle(x[own] - middle(theirs, axis=1))), spreads[0][1]
    return Part(about, value, float(low), float(high), float(centre - down), float(centre + up))


def _resampled(
    theirs: Float[np.ndarray, "own likes"],
    like: Int[np.ndarray, "own likes"],
    is_median: bool,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws own"]:
    """Middle of each latent's likes, the likes of all resampled together."""
    of = np.unique(like, return_inverse=True)[1].reshape(like.shape)
    n = int(of.max()) + 1
    times = rng.multinomial(n, np.full(n, 1 / n), size=N_DRAWS).astype(float)
    out = np.empty((N_DRAWS, len(like)))
    for i, values in enumerate(theirs):
        order = np.argsort(values)
        w, values = times[:, of[i][order]], values[order]
        w[w.sum(axis=1) == 0] = 1
        total = w.cumsum(axis=1)
        half = total[:, -1:] / 2
        mean = w @ values / total[:, -1]
        ends = values[(total >= half).argmax(axis=1)] + values[(total > half).argmax(axis=1)]
        out[:, i] = ends / 2 if is_median else mean
    return out


def require_learned(read: Read, *arms: str) -> None:
    """Refuses a trace in which one of the arms did not learn its task."""
    for arm in arms:
        if arm in read.summary.arms and read.summary.arms[arm].learned is False:
            raise InputError(f"what {arm} shows", "it did not learn its task", "tune it longer")


def apart(read: Read, arm: str, other: str) -> list[Part]:
    """Share of an arm's shift within the span less that of another's, on every text.

    Both must have learned their task, and stand about as far from where they were tuned from.
    """
    require_learned(read, arm, other)
    pair, parts = [arm, other], []
    for row in (each for each in read.summary.span if each.pair == pair):
        if not is_matched(row):
            far = " and ".join(f"{each:.3g}" for each in row.kl)
            do = f"keep more checkpoints: a ratio of at most {MATCHED} is asked"
            raise InputError(f"{' and '.join(pair)} at matched KL", f"KL of {far}", do)
        if row.value is not None and row.low is not None and row.high is not None:
            about = f"share within the span of {arm} less that of {other}, {row.text}"
            parts.append(Part(about, row.value, row.low, row.high, row.null_low, row.null_high))
    if not parts:
        raise InputError(f"{' and '.join(pair)} side by side", "no such pair", "trace both")
    return parts


def evidence_of(read: Read, name: str, about: str, *arms: str) -> Part:
    """An experiment of arms that learned their task."""
    require_learned(read, *arms)
    found = read.summary.evidence.get(name)
    if found is None or found.value is None or found.low is None or found.high is None:
        reasons = "its arms, their words or confirmed persona latents are missing"
        raise InputError(
            f"the experiment {name}", reasons, "grow and trace them, as `make study` does"
        )
    return Part(about, found.value, found.low, found.high, found.null_low, found.null_high)


def share_of(read: Read, arm: str, name: str) -> tuple[Interval, tuple[float | None, float | None]]:
    """A share of an arm that learned its task, with its interval, and the ends of its null."""
    require_learned(read, arm)
    found = getattr(read.summary.arms[arm], name) if arm in read.summary.arms else None
    if found is None or None in (found.value, found.low, found.high):
        raise InputError(f"{name} of {arm}", "not measured", "trace an arm of that name")
    return Interval(found.value, found.low, found.high), (found.null_low, found.null_high)
