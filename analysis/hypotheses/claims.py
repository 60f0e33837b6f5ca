"""Claims made about personas, each as comparisons of a trace that are above 0 where it holds.

What a trace lacks for a claim is said as its reason. Numbers and rules were fixed with base models
in view that the study does not hold (docs/decisions.md, "Claims judged anew").
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.hypotheses.parts import (
    Part,
    Read,
    apart,
    evidence_of,
    matched,
    require_learned,
    share_of,
)
from analysis.statistics.intervals import share_interval
from sae.errors import InputError

__all__ = ["CLAIMS", "homology", "small_novelty", "sufficiency", "survival", "where_not_what"]

TOLD = 0.9
"""Share of turns that must be told right."""
NOVEL = 0.01
"""Share of live latents below which novelty is small."""
AS_WELL = 0.05
"""Cosine by which persona latents' directions may fall behind those of others."""

Claim = Callable[[Read], list[Part]]


def survival(read: Read) -> list[Part]:
    """Persona latents are lost less often than others that fire as often (H1).

    Only latents with a fate count; anything but `lost` survives.

    Args:
        read: A trace.
    """
    table = _measured(read)
    told = table.loc[~table["fate"].isin(["undetermined", "unstable"])].reset_index(drop=True)
    alive = (told["fate"] != "lost").astype(float)
    about = "survival of persona latents less that of others"
    part = matched(told, alive, about, np.mean).centred()
    own = alive[told["persona"].notna()]
    exact = share_interval(int(own.sum()), len(own))  # resamples of none lost are all alike
    theirs = float(own.mean()) - part.value
    low, high = min(part.low, exact.low - theirs), max(part.high, exact.high - theirs)
    return [replace(part, low=low, high=high)]


def where_not_what(read: Read) -> list[Part]:
    """Persona latents change where they fire more than others, and write no less the same (H2).

    Args:
        read: A trace.
    """
    table = _measured(read)
    table = table.loc[table["fate"] != "unstable"]
    what = f"cosine of persona latents' directions less that of others, plus {AS_WELL}"
    where = "change of persona latents' firing less that of others"
    same = _medians(table, "direction", what)
    parts = [Part(what, same.value + AS_WELL, same.low + AS_WELL, same.high + AS_WELL)]
    parts.append(_medians(table, "gating", where))
    if "profile" in table and table["profile"].notna().any():
        kinds = "activation of persona latents in other kinds of text less that of others"
        parts.append(_medians(table, "profile", kinds))
    return parts


def _medians(table: pd.DataFrame, column: str, about: str) -> Part:
    """Of all that have the coordinate: a latent that fell silent has gating, but no direction."""
    known = table.loc[table[column].notna()].reset_index(drop=True)
    return matched(known, known[column], about, np.median).centred()


def homology(read: Read) -> list[Part]:
    """The arm moves within the span of the base's persona latents (H3).

    Args:
        read: A trace.
    """
    own, null = share_of(read, read.arms.arm, "in_span_share")
    if None in null:
        raise InputError(f"the in-span share of {read.arms.arm}", "no null", "trace it with a null")
    part = Part("share within the span less that within random spans", *own, *null).centred()
    told = any(row.pair == [read.arms.arm, read.arms.personless] for row in read.summary.span)
    return [part, *(apart(read, read.arms.arm, read.arms.personless) if told else [])]


def small_novelty(read: Read) -> list[Part]:
    """Few latents are new, and a persona stays within the span more than nobody's words (H4).

    Where they were traced the two are compared in like words: of the text, and codes.

    Args:
        read: A trace.
    """
    new, _ = share_of(read, read.arms.arm, "novel_share")
    about = f"{NOVEL:.0%} less the share of live latents that are novel"
    few = Part(about, NOVEL - new.value, NOVEL - new.high, NOVEL - new.low, most=NOVEL)
    alike = [[read.arms.arm, read.arms.spelled], [read.arms.ciphered, read.arms.nobody]]
    if all(any(row.pair == pair for row in read.summary.span) for pair in alike):
        return [few, *(part for pair in alike for part in apart(read, *pair))]
    return [few, *apart(read, read.arms.arm, read.arms.nobody)]


def sufficiency(read: Read) -> list[Part]:
    """Re-weighting persona latents alone accounts for more of KL than as many others do (H5).

    Args:
        read: A trace.
    """
    own, null = share_of(read, read.arms.arm, "persona_kl_share")
    if None in null:
        found = "no other latents of like fire rate"
        raise InputError(
            f"the persona_kl_share of {read.arms.arm}", found, "trace a larger dictionary"
        )
    about = "share of KL by re-weighting persona latents alone less that by as many others"
    return [Part(about, *own, *null).centred()]


def prompting(read: Read) -> list[Part]:
    """A prompt shifts the base within the span as tuning shifts the arm (H6).

    Args:
        read: A trace.
    """
    about = "cosine of shifts by a prompt and by tuning within the span less that in random spans"
    return [evidence_of(read, "prompt", about, read.arms.arm, read.arms.neutral).centred()]


def selection(read: Read) -> list[Part]:
    """A persona of the corpus is learned sooner, and more within the span, than one held out (H7).

    Args:
        read: A trace.
    """
    known = [arm for arm in (read.arms.arm, read.arms.met) if arm in read.summary.arms]
    require_learned(read, *known, read.arms.unmet)
    other, parts = share_of(read, read.arms.unmet, "early_excess")[0], list[Part]()
    for arm in known:
        own = share_of(read, arm, "early_excess")[0]
        value = other.value - own.value
        down = np.hypot(other.value - other.low, own.high - own.value)
        up = np.hypot(other.high - other.value, own.value - own.low)
        about = f"excess loss of {read.arms.unmet} while it learns less that of {arm}"
        parts.append(Part(about, value, value - float(down), value + float(up)))
    return parts + apart(read, read.arms.arm, read.arms.unmet)


def generalisation(read: Read) -> list[Part]:
    """Tuned to lie and nothing else, a model moves as liars differ in other traits (H8).

    Args:
        read: A trace.
    """
    about = "cosine of the shift by lying and of what else liars are, beside other traits"
    part = evidence_of(read, "narrow", about, read.arms.narrow, read.arms.narrow_true)
    part.null()  # it says nothing of lying but beside other traits
    return [part]


def routing(read: Read) -> list[Part]:
    """Activations tell a persona that was swapped from one that lies, nine turns in ten (H9).

    Args:
        read: A trace.
    """
    about = f"share of turns of a swap and of a lie that are told right less {TOLD:.0%}"
    part = evidence_of(read, "routing", about, read.arms.swap, read.arms.liar)
    value, low, high = (each - TOLD for each in (part.value, part.low, part.high))
    return [Part(about, value, low, high, most=1 - TOLD)]


def reversal(read: Read) -> list[Part]:
    """Tuned back, the arm keeps less of its shift within the span than outside (H10).

    Args:
        read: A trace.
    """
    about = "shift left outside the span less that left inside, beyond that of random spans"
    arms = read.arms
    needed = arms.arm, arms.neutral, arms.again, arms.reverted
    return [evidence_of(read, "reversal", about, *needed).centred()]


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
    require_learned(read, read.arms.arm)
    table = read.fates.loc[
        (read.fates["tuned"] == read.arms.arm) & (read.fates["origin"] == "base")
    ]
    if table["persona"].isna().all():
        raise InputError(f"persona latents of {read.arms.arm}", "none", "trace an arm of that name")
    return table.reset_index(drop=True)
