"""Tuned models side by side on the same documents: span shares, reuse indices, fidelity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from analysis.artefact.schema import Measured
from analysis.fates.subjects import Subject
from analysis.latents.bench import ModelBench, residuals
from analysis.personas.contrasts import (
    difference,
    excess_of,
    like_spans,
    nearest_kl,
    share_of,
)
from analysis.personas.likes import matched_sets, overlap
from analysis.personas.reuse import reuse_index
from analysis.personas.span import SpanShare, null_shares, varies
from analysis.statistics.intervals import Interval, interval
from analysis.statistics.matrices import n_fires
from analysis.study.experiments import Laid, evidence
from analysis.study.shares import Side, kl_of_groups, kl_shares
from analysis.study.tracing import Study
from sae import read
from sae.change import Ruler, neutral_text
from sae.errors import InputError
from sae.stream.model import LanguageModel, load_model

__all__ = ["Beside", "Comparison", "PairDifference", "compare", "compare_pairs"]
__all__ += ["starts_of", "where_another"]

LIVE_ON_ASSISTANT = 50
N_SETS = 16  # of latents without a persona
ALIKE = 0.9  # overlap of these sets from which they tell nothing of one another

Beside = tuple[Interval, tuple[float, float]]
"""A number, and the central 95 % of its null."""


@dataclass(frozen=True)
class PairDifference:
    """Span share of one arm minus that of another, on one text, at matched KL from the base."""

    text: str
    """Context whose assistant tokens are compared."""
    span: str
    """Which span."""
    arms: tuple[str, str]
    """The second is subtracted."""
    checkpoints: tuple[str, str]
    """Where along their training they were taken."""
    kl: tuple[float, float]
    """KL of either there, from the model that it was tuned from."""
    interval: Interval
    """Each arm's mean over random subspaces is subtracted from its share first."""
    null: tuple[float, float]
    """The central 95 % of the same for random subspaces."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is said of arms beside each other."""

    texts: tuple[str, ...]
    """Contexts in which an assistant speaks; shares are quoted on the first of them."""
    shares: Mapping[tuple[str, str], SpanShare]
    """By arm and span, on the first text."""
    pairs: tuple[PairDifference, ...]
    """The first tuned model against each of the others, and the pairs of a plan."""
    reuse: Mapping[str, Interval]
    """By arm; empty without a pole or without persona latents."""
    fidelity: Mapping[str, Interval]
    """FVU of the base dictionary, by tuned model and null checkpoint."""
    kl: Mapping[str, pd.DataFrame]
    """What each part of the difference accounts for (`shares.kl_shares`), by tuned model and null
    checkpoint that one was held against; empty without language models."""
    persona_kl: Mapping[str, Beside]
    """Share of KL(base || tuned) that re-weighting persona latents alone accounts for, and of as
    many others of like fire rate; by tuned model."""
    likes: Mapping[str, Beside]
    """Share within the span of persona latents on the first text, and within those of as many
    others of like fire rate; by arm."""
    evidence: Mapping[str, Measured]
    """What arms of an experiment show, by its name."""


def compare(study: Study) -> Comparison:
    """Sets the tuned models of a study side by side."""
    bench = study.bench
    texts = tuple(
        str(context)
        for context in bench.tokens["context"].drop_duplicates()
        if bench.at("assistant", str(context)).sum() >= LIVE_ON_ASSISTANT
    )
    models = {name: one.x for name, one in study.seen.items()}
    starts = starts_of(study)
    shares, likes = dict[tuple[str, str], SpanShare](), dict[str, Beside]()
    groups, others = _groups(study), None
    if groups and "latents" in study.spans:
        others = like_spans(study.firing.rows, groups[1:], len(study.spans["latents"].basis))
    for name, x in models.items() if texts else ():
        mask = bench.at("assistant", texts[0])
        moved = starts[name].x if name in starts else bench.x, x
        shift = (x[mask] - moved[0][mask]).astype(float)
        if not varies(shift):
            continue  # one vector that all tokens share: `notes` says so
        for span, found in study.spans.items():
            shares[name, span] = share_of(bench, moved, found, mask)
        if others is not None:
            there = where_another(null_shares(shift, others), overlap(groups[1:]))
            least, most = (min(max(end, 0.0), 1.0) for end in there)  # of a share
            likes[name] = shares[name, "latents"].share, (least, most)
    pairs = compare_pairs(study, bench, texts, starts) if isinstance(bench, ModelBench) else ()
    everyone = {**study.seen, **study.nulls.seen, **study.held_back.seen}
    fidelities = {name: one.fidelity for name, one in everyone.items()}
    arms_show = {}
    if isinstance(bench, ModelBench) and study.config.plan:
        arms_show = evidence(Laid(bench, study.spans.get("latents"), models), study.config.plan)
    kl = _kl(study, groups)
    return Comparison(texts, shares, pairs, _reuse(study, texts), fidelities, *kl, likes, arms_show)


@dataclass(frozen=True, eq=False)
class Start:
    """Another model than the base that an arm was tuned from."""

    model: LanguageModel
    """It."""
    x: Float[np.ndarray, "n d_in"]
    """Its residual vectors."""


def starts_of(study: Study) -> dict[str, Start]:
    """What arms were tuned from, by arm, where that is not the base.

    Args:
        study: Its tuned models say what they start from.
    """
    bench, found = study.bench, {}
    for each in study.config.tuned:
        if each.start is not None and isinstance(bench, ModelBench):
            model = load_model(each.start)
            found[each.name] = Start(model, residuals(bench, model))
    return found


def _kl(
    study: Study, groups: Sequence[np.ndarray]
) -> tuple[dict[str, pd.DataFrame], dict[str, Beside]]:
    bench, config = study.bench, study.config
    if not isinstance(bench, ModelBench):
        return {}, {}
    paths = {each.name: each.path for each in config.tuned}
    for null in config.nulls:
        paths |= null.checkpoints()
    used = {n for v in study.verdicts.values() if v.null is not None for n in v.null.names}
    seen = {**study.seen, **{name: study.nulls.seen[name] for name in sorted(used)}}
    before = Side(bench.base, read(config.continued / "base")[0], study.continued, bench.x)
    n, found, alone = study.dictionary[0].config.d_sae, {}, {}
    for name, one in seen.items():
        dictionary, _ = read(config.continued / name)
        after = Side(load_model(paths[name]), dictionary, one.firing, one.x)
        verdict = study.verdicts.get(name)
        new = {} if verdict is None else _novel(verdict.fates)
        found[name] = kl_shares(bench, before, after, n, new)
        if name in study.seen and groups:
            point, drawn = kl_of_groups(bench, before, after, groups)
            value = interval(float(point[0]), drawn[:, 0], bench.blocks.n_blocks)
            alone[name] = value, where_another(point[1:], overlap(groups[1:]))
    return found, alone


def _groups(study: Study) -> list[np.ndarray]:
    """Confirmed persona latents, and sets of as many others; none where there are too few."""
    personas = study.carriers.personas
    chosen = personas.loc[personas["confirmed"].astype(bool), "latent"].unique()
    rates = n_fires(study.continued.z)[: study.dictionary[0].config.d_sae] / len(study.bench.x)
    if not len(chosen):
        return []
    try:
        sets = matched_sets(chosen, personas["latent"].to_numpy(int), rates, N_SETS)
    except InputError:
        return []
    return [chosen, *sets] if overlap(sets) < ALIKE else []


def where_another(others: Float[np.ndarray, " sets"], common: float) -> tuple[float, float]:
    """Where 95 % of what a set with none of their latents shows would lie, were it like them.

    Sets that share latents are more alike than draws: what adds up over latents, of variance v,
    has a sample variance of (1 - common) v over sets, and their mean one of
    (1 / n + common (n - 1) / n) v.

    Args:
        others: What every set shows.
        common: Share of latents that two sets have in common.
    """
    n = len(others)
    v = np.var(others, ddof=1) / (1 - common)
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt(v * (1 + 1 / n + common * (n - 1) / n))
    return float(others.mean() - reach), float(others.mean() + reach)


def _novel(fates: pd.DataFrame) -> dict[str, np.ndarray]:
    mine = fates.loc[fates["origin"] == "tuned"]
    return {str(fate): rows["latent"].to_numpy(int) for fate, rows in mine.groupby("fate")}


def compare_pairs(
    study: Study, bench: ModelBench, texts: tuple[str, ...], starts: Mapping[str, Start]
) -> tuple[PairDifference, ...]:
    """The first arm against each other one, and pairs of a plan, at checkpoints of nearest KL.

    Args:
        study: Whose tuned models.
        bench: Tokens.
        texts: Contexts whose assistant tokens are compared.
        starts: From `starts_of`; all others are measured from the base.
    """
    subjects = {s.name: s for s in study.config.tuned if s.name != study.config.pole}
    if not study.spans or not texts or len(subjects) < 2:
        return ()
    mask = np.logical_or.reduce([bench.at("assistant", text) for text in texts])
    first, *others = subjects
    wanted = [(first, other) for other in others]
    if study.config.plan is not None:
        wanted += [pair for pair in study.config.plan.arms.pairs if set(pair) <= set(subjects)]
    ladders = {name: _ladder(study, subjects[name]) for pair in wanted for name in pair}
    kl = {name: _kl_of(study, bench, each, starts.get(name)) for name, each in ladders.items()}
    found: list[PairDifference] = []
    for pair in dict.fromkeys(wanted):
        names = nearest_kl(kl[pair[0]], kl[pair[1]])
        if names is None:
            continue
        shifts = [
            residuals(bench, load_model(ladders[arm][name]), mask)
            - (starts[arm].x if arm in starts else bench.x)[mask]
            for arm, name in zip(pair, names, strict=True)
        ]
        ends = kl[pair[0]][names[0]], kl[pair[1]][names[1]]
        for text in texts:
            mine = bench.at("assistant", text)
            here = shifts[0][mine[mask]], shifts[1][mine[mask]]
            if not all(varies(each.astype(float)) for each in here):
                continue
            for name, span in study.spans.items():
                measured = difference(bench, here, span, mine)
                found.append(PairDifference(text, name, pair, names, ends, *measured))
    return tuple(found)


def _ladder(study: Study, subject: Subject) -> dict[str, str]:
    """Checkpoints of an arm, or the arm itself where it kept none."""
    ladder = subject.checkpoints() or {subject.name: subject.path}
    return {name: path for name, path in ladder.items() if name in study.changes}


def _kl_of(
    study: Study, bench: ModelBench, ladder: Mapping[str, str], start: Start | None
) -> dict[str, float]:
    """KL of checkpoints from the model that they were tuned from."""
    if start is None:
        return {name: study.changes[name].kl for name in ladder}
    ruler = Ruler(start.model, neutral_text(bench.text), bench.hook)
    return {name: ruler.measure(load_model(path)).kl for name, path in ladder.items()}


def _reuse(study: Study, texts: tuple[str, ...]) -> dict[str, Interval]:
    """The reuse index of every tuned model; nothing where there is no scale to put it on."""
    pole = study.config.pole
    if pole is None or not study.spans or not texts:
        return {}
    mask = np.logical_or.reduce([study.bench.at("assistant", text) for text in texts])
    targets = {name: one.x for name, one in study.seen.items()} | {"base": study.bench.x}
    try:
        found = excess_of(study.bench, study.firing, study.carriers.personas, targets, mask)
    except InputError:  # too few latents that carry no persona to match with
        return {}
    return {
        name: reuse_index(found[name], found[pole], found["base"], study.bench.weights)
        for name in study.seen
        if name != pole
    }
