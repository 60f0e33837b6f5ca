"""Claims made about personas, each as comparisons of a trace that are above 0 where it holds.

What a trace lacks for a claim is said as its reason. Numbers and rules were fixed before any of the
claims was looked at, but for what docs/decisions.md says of H7, H8 and H10.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.intervals import Interval
from analysis.schema import Summary
from sae.errors import InputError

__all__ = ["CLAIMS", "Part", "Read", "homology", "small_novelty", "sufficiency"]
__all__ += ["survival", "where_not_what"]

N_LIKE = 10
"""Latents that are no persona's beside each that is, those that fire most nearly as often."""
N_DRAWS = 2000
TOLD = 0.9
"""Share of turns that must be told right."""
NOVEL = 0.01
"""Share of live latents below which novelty is small."""


@dataclass(frozen=True, eq=False)
class Read:
    """A trace, and the names its arms go by."""

    summary: Summary
    """`summary.json`."""
    fates: pd.DataFrame
    """`fates.parquet`."""
    arm: str = "assistant"
    """Tuned into a persona."""
    contrast: str = "piston"
    """Tuned to nobody's words."""
    scratch: str = "scratch"
    """Tuned as the arm, from random weights."""
    unmet: str = "unmet"
    """Tuned into a persona that the base never met."""


@dataclass(frozen=True)
class Part:
    """A comparison, its 95 % interval and, where it has one, the central 95 % of its null."""

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


Claim = Callable[[Read], list[Part]]


def survival(read: Read) -> list[Part]:
    """Persona latents are lost less often than others that fire as often (H1).

    Only latents with a fate count; anything but `lost` survives.

    Args:
        read: A trace.
    """
    table = _measured(read)
    told = table.loc[~table["fate"].isin(["undetermined", "unstable"])]
    alive = (told["fate"] != "lost").astype(float)
    return [_matched(told, alive, "survival of persona latents less that of others", np.mean)]


def where_not_what(read: Read) -> list[Part]:
    """Persona latents change where they fire and not what they write, more than others (H2).

    Args:
        read: A trace.
    """
    table = _measured(read)
    table = table.loc[(table["fate"] != "unstable") & table["direction"].notna()]
    what = "cosine of persona latents' directions less that of others"
    where = "change of persona latents' firing less that of others"
    parts = [_matched(table, table["direction"], what, np.median)]
    parts.append(_matched(table, table["gating"], where, np.median))
    known = table.loc[table["profile"].notna()] if "profile" in table else table.head(0)
    if len(known):
        kinds = "activation of persona latents in other kinds of text less that of others"
        parts.append(_matched(known, known["profile"], kinds, np.median))
    return parts


def homology(read: Read) -> list[Part]:
    """The arm moves within the span of the base's persona latents (H3).

    Args:
        read: A trace.
    """
    own, null = _share(read, read.arm, "in_span_share")
    if null[1] is None:
        raise InputError(f"the in-span share of {read.arm}", "no null", "trace it with a null")
    other, _ = _share(read, read.scratch, "in_span_share")
    # Measured apart, so their reaches add as if independent.
    down = np.hypot(own.value - own.low, other.high - other.value)
    up = np.hypot(own.high - own.value, other.value - other.low)
    value, about = own.value - other.value, f"share within the span less that of {read.scratch}"
    return [
        Part("share within the span, beside random spans", *own, *null),
        Part(about, value, value - float(down), value + float(up)),
    ]


def small_novelty(read: Read) -> list[Part]:
    """Few latents are new, and a persona stays within the span more than nobody's words (H4).

    Args:
        read: A trace.
    """
    new, _ = _share(read, read.arm, "novel_share")
    few = Part(
        f"{NOVEL:.0%} less the share of live latents that are novel",
        *(NOVEL - each for each in (new.value, new.high, new.low)),
    )
    return [few, *_apart(read, read.contrast)]


def sufficiency(read: Read) -> list[Part]:
    """Re-weighting persona latents alone accounts for more of KL than as many others do (H5).

    Args:
        read: A trace.
    """
    own, null = _share(read, read.arm, "persona_kl_share")
    if null[1] is None:
        found = "no other latents of like fire rate"
        raise InputError(f"the persona_kl_share of {read.arm}", found, "trace a larger dictionary")
    about = "share of KL by re-weighting persona latents alone, beside sets of as many others"
    return [Part(about, *own, *null)]


def prompting(read: Read) -> list[Part]:
    """A prompt shifts the base within the span as tuning shifts the arm (H6).

    Args:
        read: A trace.
    """
    about = (
        "cosine of the shift by a prompt and that by tuning within the span, beside random spans"
    )
    return [_evidence(read, "prompt", about, read.arm)]


def selection(read: Read) -> list[Part]:
    """A persona of the corpus is learned sooner, and more within the span, than one held out (H7).

    Args:
        read: A trace.
    """
    _require_learned(read, read.arm, read.unmet)
    own, other = (_share(read, arm, "early_excess")[0] for arm in (read.arm, read.unmet))
    value = other.value - own.value
    down = np.hypot(other.value - other.low, own.high - own.value)
    up = np.hypot(other.high - other.value, own.value - own.low)
    about = f"excess loss of {read.unmet} while it learns less that of {read.arm}"
    parts = [Part(about, value, value - float(down), value + float(up))]
    return parts + _apart(read, read.unmet)


def generalisation(read: Read) -> list[Part]:
    """Tuned to lie and nothing else, a model moves as liars differ in other traits (H8).

    Args:
        read: A trace.
    """
    about = "cosine of the shift by lying and of what else liars are, beside other traits"
    return [_evidence(read, "narrow", about, "narrow", "narrow_true")]


def routing(read: Read) -> list[Part]:
    """Activations tell a persona that was swapped from one that lies, nine turns in ten (H9).

    Args:
        read: A trace.
    """
    about = f"share of turns of a swap and of a lie that are told right less {TOLD:.0%}"
    part = _evidence(read, "routing", about, "swap", "liar")
    return [Part(about, *(each - TOLD for each in (part.value, part.low, part.high)))]


def reversal(read: Read) -> list[Part]:
    """Tuned back, the arm keeps less of its shift within the span than outside (H10).

    Args:
        read: A trace.
    """
    about = "shift left outside the span less that left inside, beside random spans"
    return [_evidence(read, "reversal", about, read.arm)]


CLAIMS: Mapping[str, tuple[str, Claim]] = {
    "H1": ("Persona latents survive tuning more often than others.", survival),
    "H2": ("Tuning changes where persona latents fire, not what they write.", where_not_what),
    "H3": ("What tuning changes lies within the span of base persona latents.", homology),
    "H4": ("Little is new, and less in a persona than in nobody's words.", small_novelty),
    "H5": ("Re-weighted persona latents account for the change of output.", sufficiency),
    "H6": ("A prompt and tuning move persona latents alike.", prompting),
    "H7": ("A persona of the corpus is easier to tune to than one held out.", selection),
    "H8": ("Tuning one trait moves the traits that went with it.", generalisation),
    "H9": ("A swapped persona and a lying one can be told apart.", routing),
    "H10": ("Persona gains revert sooner than what is new.", reversal),
}
"""Claims that a trace can judge, and how."""


def _measured(read: Read) -> pd.DataFrame:
    table = read.fates.loc[(read.fates["tuned"] == read.arm) & (read.fates["origin"] == "base")]
    if table["persona"].isna().all():
        raise InputError(f"persona latents of {read.arm}", "none", "trace an arm of that name")
    return table.reset_index(drop=True)


def _matched(
    table: pd.DataFrame, values: pd.Series, about: str, middle: Callable[..., np.floating]
) -> Part:
    """Persona latents less their likes in rate; the null gives the persona's place to a like."""
    own, rest = (np.flatnonzero(table["persona"].notna() == side) for side in (True, False))
    if not len(own) or len(rest) <= N_LIKE:
        found = f"{len(own)} persona latents and {len(rest)} others with a fate"
        raise InputError(about, found, f"trace more: at least 1 and {N_LIKE + 1}")
    rate = np.log(table["n_fires"].to_numpy(float).clip(1))
    apart = np.abs(rate[own][:, None] - rate[rest])
    like = rest[np.argsort(apart, axis=1, kind="stable")[:, :N_LIKE]]
    x = values.to_numpy(float)
    theirs = x[like]
    differences = x[own] - middle(theirs, axis=1)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(own), size=(N_DRAWS, len(own)))
    low, high = np.quantile(middle(differences[drawn], axis=1), [0.025, 0.975])
    apart = np.stack(
        [theirs[:, i] - middle(np.delete(theirs, i, 1), axis=1) for i in range(N_LIKE)]
    )
    stand = apart[rng.integers(N_LIKE, size=drawn.shape), np.arange(len(own))]
    null = np.quantile(middle(stand, axis=1), [0.025, 0.975])
    return Part(about, float(middle(differences)), float(low), float(high), *map(float, null))


def _require_learned(read: Read, *arms: str) -> None:
    for arm in arms:
        if arm in read.summary.arms and read.summary.arms[arm].learned is False:
            raise InputError(f"what {arm} shows", "it did not learn its task", "tune it longer")


def _apart(read: Read, other: str) -> list[Part]:
    """Share of the arm's shift within the span less that of another's, on every text."""
    pair, parts = [read.arm, other], []
    for row in (each for each in read.summary.span if each.pair == pair):
        if row.value is not None and row.low is not None and row.high is not None:
            about = f"share within the span less that of {other}, {row.text}"
            parts.append(Part(about, row.value, row.low, row.high))
    if not parts:
        raise InputError(f"{' and '.join(pair)} side by side", "no such pair", "trace both")
    return parts


def _evidence(read: Read, name: str, about: str, *arms: str) -> Part:
    """An experiment of arms that learned their task."""
    _require_learned(read, *arms)
    found = read.summary.evidence.get(name)
    if found is None or found.value is None or found.low is None or found.high is None:
        reasons = "its arms, their words or confirmed persona latents are missing"
        raise InputError(
            f"the experiment {name}", reasons, "grow and trace them, as `make study` does"
        )
    return Part(about, found.value, found.low, found.high, found.null_low, found.null_high)


def _share(read: Read, arm: str, name: str) -> tuple[Interval, tuple[float | None, float | None]]:
    """A share of an arm with its interval, and the ends of its null."""
    found = getattr(read.summary.arms[arm], name) if arm in read.summary.arms else None
    if found is None or None in (found.value, found.low, found.high):
        raise InputError(f"{name} of {arm}", "not measured", "trace an arm of that name")
    return Interval(found.value, found.low, found.high), (found.null_low, found.null_high)
