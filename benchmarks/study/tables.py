"""What traces of several base models show together: arms, pairs of arms, claims.

A number of one base model is the mean over its dictionaries. Intervals are Student's over base
models, since what differs most from organism to organism is the base, and no narrower than what
documents and latents give; with fewer than three bases there is none. Where an arm did not learn
its task, the trace says nothing of it but that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.artefact.names import UNCHANGED
from analysis.hypotheses.judge import Judged, judge_all
from analysis.hypotheses.parts import Part, Read, verdict_of
from benchmarks.study.cells import (
    NONE,
    Of,
    Table,
    Traced,
    arms_of,
    counted,
    inherited,
    measured,
    null_of,
    null_reach,
    number,
    told,
    tracing,
)
from benchmarks.study.controls import Rows, table
from benchmarks.study.pairs import dialects, differences, firing, square
from training.organism.arms import ARMS

__all__ = ["markdown", "tables"]


def tables(
    traces: Sequence[Traced], controls: Mapping[str, Rows] | None = None
) -> dict[str, Table]:
    """Every table of the study.

    Args:
        traces: At least one.
        controls: Of every base, where there are any.
    """
    judged = judge_all([each.read for each in traces])
    last = {"controls": table(controls)} if controls else {}
    return {
        "arms": _arms(traces),
        "claims": _claims(judged),
        "comparisons": _comparisons(judged),
        "latents": _latents(traces),
        "changes": _changes(traces),
        "bases": _bases(traces),
        "differences": differences(traces),
        "square": square(traces),
        "dialects": dialects(traces),
        "firing": firing(traces),
        "means": _means(traces),
        "errors": _errors(traces),
        **last,
    }


def markdown(shown: Mapping[str, Table], traces: Sequence[Traced]) -> str:
    """The tables as a page.

    Args:
        shown: From `tables`.
        traces: What they are of.
    """
    commits = sorted({each.commit for each in traces})
    seeds = [sorted({getattr(each, of) for each in traces}) for of in ("base", "dictionary")]
    lines = ["# The study", "", f"{len(traces)} traces by commit {', '.join(commits)}: base models"]
    lines[-1] += f" of seeds {', '.join(seeds[0])}, dictionaries of seeds {', '.join(seeds[1])}."
    for each in shown.values():
        lines += ["", f"## {each.title}", "", *([each.about, ""] if each.about else [])]
        lines += [_row(each.head), _row(["---"] * len(each.head)), *map(_row, each.rows)]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _arms(traces: Sequence[Traced]) -> Table:
    about = {each.name: each.about for each in ARMS}
    rows = tuple((arm, about.get(arm, NONE)) for arm in arms_of(traces))
    return Table("Arms", ("arm", "what it was tuned on"), rows)


def _claims(judged: Sequence[Judged]) -> Table:
    rows = []
    for each in judged:
        known = (each.p_value, each.holm, each.against, each.holm_against)
        p = (NONE if p is None else f"{p:.3f}" for p in known)
        rows.append((each.name, each.claim, each.verdict, *p, each.over if each.parts else NONE))
    about = (
        "Supported where each of its comparisons is; refuted where one is, corrected for how many "
        "it has (Bonferroni). p is the largest of its comparisons'; p against is the smallest of "
        "their lying below 0, so corrected. Holm's correct each for all ten claims; verdicts do "
        "not ask for these. A comparison without an interval over bases says nothing here."
    )
    head = ("", "claim", "verdict", "p", "Holm", "p against", "Holm", "intervals over")
    return Table("Claims", head, tuple(rows), about)


def _comparisons(judged: Sequence[Judged]) -> Table:
    rows = []
    for each in judged:
        for part in each.parts:
            null = (part.null_low, part.null_high)
            numbers = f"{part.value:.3f}", f"[{part.low:.3f}, {part.high:.3f}]"
            beside = NONE if None in null else "{:.3f} to {:.3f}".format(*null)
            rows.append((each.name, part.about, *numbers, beside, verdict_of(part)))
    about = (
        "Supported where the interval lies above 0 and the estimate beyond the null, refuted where "
        "they lie below; of bases at the limit, or fewer than three, by documents and latents."
    )
    head = ("", "what is compared", "estimate", "interval", "null", "")
    return Table("What claims compare", head, tuple(rows), about)


def _bases(traces: Sequence[Traced]) -> Table:
    """Base by base, since three numbers say more than an interval over three."""
    bases = list(dict.fromkeys(each.base for each in traces))
    rows = []
    for arm in arms_of(traces):
        mine = tracing(traces, arm)
        own = [[each for each in mine if each.base == base] for base in bases]
        share: Of = lambda r, a=arm: measured(r.summary.arms[a].in_span_share)  # noqa: E731
        index: Of = lambda r, a=arm: measured(r.summary.reuse_index.get(a))  # noqa: E731
        shares = [f"{told(each, share)} ({null_reach(each, share)})" for each in own]
        rows.append((arm, *shares, *(told(each, index) for each in own)))
    head = ("arm", *(f"share within the span, base {base} (random spans)" for base in bases))
    head += tuple(f"reuse index, base {base}" for base in bases)
    about = "Means over the dictionaries of a base; random spans from the least to the most."
    return Table("Base by base", head, tuple(rows), about)


def _group(read: Read, arm: str, persona: bool) -> pd.DataFrame:
    mine = inherited(read, arm)
    return mine.loc[mine["persona"].notna() == persona]


def _share(arm: str, persona: bool, fates: Sequence[str], other: bool = False) -> Of:
    """Share of judged latents with one of these fates, or with none of them."""

    def share(read: Read) -> Part | None:
        mine = _group(read, arm, persona)
        hits = mine.loc[mine["q_value"].notna(), "fate"].isin(fates)
        return counted(~hits if other else hits)

    return share


def _unjudged(arm: str) -> Of:
    return lambda read: counted(_group(read, arm, persona=True)["q_value"].isna())


def _latents(traces: Sequence[Traced]) -> Table:
    rows = []
    for arm in arms_of(traces):
        there = [each for each in traces if arm in each.read.summary.arms]
        learned = [each.read.summary.arms[arm].learned is True for each in there]
        mine = tracing(traces, arm)
        cells = [told(mine, lambda r, a=arm: number(r.summary.arms[a].size.activations))]
        cells.append(told(mine, _unjudged(arm), is_share=True))
        for persona in (True, False):
            cells.append(told(mine, _share(arm, persona, ["preserved"]), is_share=True))
            cells.append(told(mine, _share(arm, persona, UNCHANGED, other=True), is_share=True))
        novel: Of = lambda r, a=arm: measured(r.summary.arms[a].novel_share)  # noqa: E731
        rows.append((arm, f"{sum(learned)} of {len(there)}", *cells, told(mine, novel, True)))
    about = (
        "change: of activations on neutral text, from the base in every arm. Not judged: persona "
        "latents that fire too seldom, that drift alone replaces, or that no null allows to judge; "
        "other shares are of those that are, and what is neither preserved nor changed is "
        "undetermined. Others fire more and less often than persona latents; for latents alike in "
        "that see the claims and the table of persona latents beside others."
    )
    head = ("arm", "learned", "change", "persona latents not judged", "preserved", "changed")
    head += ("other latents preserved", "changed", "novel, of live latents")
    return Table("Fates", head, tuple(rows), about)


def _changes(traces: Sequence[Traced]) -> Table:
    rows = []
    for arm in arms_of(traces):
        mine = tracing(traces, arm)
        row = [arm, told(mine, lambda r, a=arm: measured(r.summary.arms[a].in_span_share))]
        for key in ("in_span_share", "in_span_share_likes"):
            beside: Of = lambda r, a=arm, k=key: measured(getattr(r.summary.arms[a], k))  # noqa: E731
            row.append(null_of(mine, beside))
        every: Of = lambda r, a=arm: measured(r.summary.arms[a].kl_shares.get("re_weighting"))  # noqa: E731
        own: Of = lambda r, a=arm: measured(r.summary.arms[a].persona_kl_share)  # noqa: E731
        row += [told(mine, every), null_reach(mine, every), told(mine, own), null_of(mine, own)]
        index = told(mine, lambda r, a=arm: measured(r.summary.reuse_index.get(a)))
        rows.append((*row, index))
    about = (
        "The share of the shift within the span beside random spans of its rank (covariance-"
        "matched) and those of as many other latents that fire as often (added once the first "
        "trace of base 3 was seen: no claim asks for it); the shares of KL "
        "that re-weighting all inherited latents and persona latents alone account for beside "
        "those of the nulls' checkpoints (a few runs, from the least to the most) and of as many "
        "other latents. The reuse index says how much better "
        "persona latents predict activations than others that fire as often, between a model from "
        "random weights (0) and the base (1). All are from the base, `reverted` as well; but the "
        "shift of `scratch` and of `shuffled` is from what they were tuned from."
    )
    head = ("arm", "share within the span", "random spans", "spans of other latents")
    head += ("KL by re-weighting", "nulls")
    head += ("by persona latents alone", "others", "reuse index")
    return Table("What changed", head, tuple(rows), about)


def _means(traces: Sequence[Traced]) -> Table:
    rows = []
    for arm in arms_of(traces):
        row = [arm]
        for key in ("in_contrast_span_share", "in_dialect_span_share"):

            def share(read: Read, arm: str = arm, key: str = key) -> Part | None:
                found = measured(getattr(read.summary.arms[arm], key))
                return found if found is None or found.null_low is None else found.centred()

            mine = tracing(traces, arm)
            row += [told(mine, share), null_of(mine, share)]
        rows.append(tuple(row))
    head = ("arm", "of personas", "null", "of dialects", "null")
    title = "Shift within the span of mean activations, less that within random spans"
    return Table(title, head, tuple(rows))


def _errors(traces: Sequence[Traced]) -> Table:
    """What is called on held-back nulls, in which nothing happened."""
    families = ("persona", "all")
    rows = [
        (f, *(told(traces, _rate(f, call), is_share=True) for call in ("changed", "preserved")))
        for f in families
    ]
    return Table("Held-back nulls", ("latents", "called changed", "called preserved"), tuple(rows))


def _rate(family: str, call: str) -> Of:
    def rate(read: Read) -> Part | None:
        found = [rates.get(family) for rates in read.summary.error_rates.values()]
        parts = [measured(getattr(each, call)) for each in found if each is not None]
        known = [each for each in parts if each is not None]
        if not known:
            return None
        value, low, high = (
            float(np.mean([getattr(each, end) for each in known]))
            for end in ("value", "low", "high")
        )
        return replace(known[0], value=value, low=low, high=high)

    return rate
