"""Arms beside each other: at matched KL, and personas beside dialects."""

from collections.abc import Callable, Sequence

import numpy as np

from analysis.hypotheses.parts import MATCHED, Part, Read, is_matched, matched
from benchmarks.study.cells import (
    NONE,
    Of,
    Table,
    Traced,
    arms_of,
    inherited,
    null_of,
    refused,
    told,
    tracing,
)

__all__ = ["dialects", "differences", "firing", "square"]

SQUARE = (("assistant", "piston_seen"), ("cipher", "piston"))
"""In words of the text and in codes: an arm that says what a persona says, and one that does not"""
WORDS = (("assistant", "cipher"), ("piston_seen", "piston"))


def differences(traces: Sequence[Traced]) -> Table:
    """Arms beside each other, and random spans.

    Args:
        traces: At least one.
    """
    named = {(tuple(row.pair), row.text): None for each in traces for row in each.read.summary.span}
    rows = []
    for pair, text in named:
        of = _pair(pair, text)
        far = [_ratio(each.read, pair, text) for each in traces]
        known = [each for each in far if each is not None]
        ratio = f"{min(known):.2f} to {max(known):.2f}" if known else NONE
        rows.append((" less ".join(pair), text, told(traces, of), null_of(traces, of), ratio))
    about = (
        "Each arm's mean over random spans is taken from its share first; the null is the same "
        "difference for one random span. KL, the first arm's over the other's, is from what each "
        f"was tuned from; pairs above {MATCHED} or below its inverse are left out, base by base, "
        "and those of which an arm did not learn its task."
    )
    head = ("arms", "text", "difference", "random spans", "ratio of KL")
    return Table(
        "Share within the span of persona latents, at matched KL", head, tuple(rows), about
    )


def _ratio(read: Read, pair: Sequence[str], text: str) -> float | None:
    for row in read.summary.span:
        if tuple(row.pair) == tuple(pair) and row.text == text and len(row.kl) == 2:
            return row.kl[0] / max(row.kl[1], 1e-12)
    return None


def _pair(pair: Sequence[str], text: str) -> Of:
    """A difference at matched KL of arms that learned their tasks."""

    def difference(read: Read) -> Part | None:
        if any(read.summary.arms[arm].learned is False for arm in pair if arm in read.summary.arms):
            return None
        for row in read.summary.span:
            if tuple(row.pair) == tuple(pair) and row.text == text and is_matched(row):
                low, high = (row.value if end is None else end for end in (row.low, row.high))
                if row.value is None or low is None or high is None:
                    return None
                return Part("", row.value, low, high, row.null_low, row.null_high)
        return None

    return difference


def _less(first: Of, second: Of) -> Of:
    """One number less another, measured apart, so that their reaches add as if independent."""

    def less(read: Read) -> Part | None:
        one, other = first(read), second(read)
        if one is None or other is None:
            return None
        value = one.value - other.value
        down = float(np.hypot(one.value - one.low, other.high - other.value))
        up = float(np.hypot(one.high - one.value, other.value - other.low))
        return Part("", value, value - down, value + up)

    return less


def square(traces: Sequence[Traced]) -> Table:
    """Arms that say what a persona says or not, in words of the text or not.

    Args:
        traces: At least one.
    """
    texts = dict.fromkeys(row.text for each in traces for row in each.read.summary.span)
    rows = []
    for text in texts:
        seen, unseen = (_pair(pair, text) for pair in SQUARE)
        kept, codes = (_pair(pair, text) for pair in WORDS)
        rows += [
            (text, "a persona's words, in words of the text", " less ".join(SQUARE[0]), seen),
            (text, "a persona's words, in codes", " less ".join(SQUARE[1]), unseen),
            (text, "the first less the second", "interaction", _less(seen, unseen)),
            (text, "words of the text, a persona's", " less ".join(WORDS[0]), kept),
            (text, "words of the text, nobody's", " less ".join(WORDS[1]), codes),
        ]
    shown = ((*names, told(traces, of), null_of(traces, of)) for *names, of in rows)
    title = "Consistency with a persona by seen words: span share at matched KL"
    head = ("text", "what differs", "arms", "difference", "random spans")
    return Table(title, head, tuple(shown))


def _beside(arm: str, label: str, column: str, middle: Callable[..., np.floating]) -> Of:
    """How much more labelled latents of an arm changed than others that fire as often."""

    def beside(read: Read) -> Part | None:
        mine = inherited(read, arm)
        mine = mine.loc[mine["fate"] != "unstable"]
        if label not in mine or column not in mine:
            return None
        mine = mine.loc[mine[column].notna()].reset_index(drop=True)
        return refused(lambda: matched(mine, mine[column], "", middle, label).centred())

    return beside


def dialects(traces: Sequence[Traced]) -> Table:
    """Whether what persona latents undergo is theirs alone.

    Args:
        traces: At least one.
    """
    rows = []
    for about, column in (("tokens on which it fires", "gating"), ("kinds of text", "profile")):
        persona = _beside("assistant", "persona", column, np.median)
        dialect = _beside("dialect", "dialect", column, np.median)
        mine = [tracing(traces, arm) for arm in ("assistant", "dialect")]
        both = tracing(mine[0], "dialect")
        rows.append(
            (
                about,
                told(mine[0], persona),
                null_of(mine[0], persona),
                told(mine[1], dialect),
                null_of(mine[1], dialect),
                told(both, _less(persona, dialect)),
            )
        )
    about = (
        "Median change of persona latents in `assistant` and of dialect latents that are no "
        "persona's in `dialect`, each less that of others that fire as often, beyond the middle "
        "of its null."
    )
    head = ("what changes", "persona latents", "null", "dialect latents", "null", "difference")
    return Table("Personas and dialects", head, tuple(rows), about)


def firing(traces: Sequence[Traced]) -> Table:
    """Whether persona latents change where they fire in any tuned model, or by a persona alone.

    Args:
        traces: At least one.
    """
    columns, rows = ("direction", "gating", "profile"), []
    for arm in arms_of(traces):
        mine = tracing(traces, arm)
        rows.append((arm, *(told(mine, _of_persona_latents(arm, c)) for c in columns)))
    arms = "assistant", "format_only"
    both = tracing(tracing(traces, arms[0]), arms[1])
    less = (_less(*(_of_persona_latents(arm, c) for arm in arms)) for c in columns)
    rows.append((" less ".join(arms), *(told(both, each) for each in less)))
    about = (
        "What H2 compares, in every arm: cosines of persona latents' directions, tokens on which "
        "they fire, and shares of activation in other kinds of text, less those of latents that "
        "fire as often. `format_only` is tuned as long on the same chats, in all personas. Added "
        "once these traces had been judged: no claim asks for it."
    )
    head = ("arm", "direction", "tokens on which they fire", "kinds of text")
    return Table("Persona latents beside others that fire as often", head, tuple(rows), about)


def _of_persona_latents(arm: str, column: str) -> Of:
    return _beside(arm, "persona", column, np.median)
