"""A study and its comparison -> the summary: every number with its interval and its null."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.artefact.names import REPURPOSED
from analysis.artefact.summary import (
    Arm,
    Base,
    Context,
    ControlRates,
    Dictionary,
    ErrorRate,
    Measured,
    Persona,
    Power,
    Size,
    SpanDifference,
    Spread,
    Summary,
    error_rates_of,
    power_of,
    to_json,
)
from analysis.fates.power import power
from analysis.fates.verdicts import Verdict
from analysis.statistics.intervals import Interval, share_interval
from analysis.study.comparing import Beside, Comparison
from analysis.study.notes import notes
from analysis.study.tracing import Study

__all__ = ["conclude", "nulls_of"]

SCORES = ("latent", "probe", "ideal")


def conclude(study: Study, comparison: Comparison, organism: Mapping[str, Any]) -> Summary:
    """The summary of a trace.

    Args:
        study: What was seen and judged.
        comparison: Arms side by side.
        organism: Content of `organism.json`: behaviour and roles of the arms, loss of the base
            model; empty for models that were not grown here.
    """
    arms = {name: _arm(study, comparison, name, organism) for name in study.seen}
    learned = {name for name, arm in arms.items() if arm.learned is not False}
    base = organism.get("base", {})
    return Summary(
        dictionary=_dictionary(study.dictionary[1]),
        personas=_personas(study),
        arms=arms,
        reuse_index={n: _measured(i) for n, i in comparison.reuse.items() if n in learned},
        base=Base(base.get("ce"), base.get("ideal_ce")),
        span=[_pair(pair) for pair in comparison.pairs if pair.span == "latents"],
        error_rates=_error_rates(study),
        controls=_controls(study),
        power={name: _power(v) for name, v in study.verdicts.items() if v.null is not None},
        contexts=_contexts(study.carriers.contexts),
        evidence=dict(comparison.evidence),
        notes=notes(study, comparison),
        seeds={"trace": study.config.seed, "organism": organism.get("config", {}).get("seed")},
    )


def _error_rates(study: Study) -> dict[str, dict[str, ErrorRate]]:
    """What was said of each held-back checkpoint, once for all arms whose null it was held to."""
    arms: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    tables: dict[tuple[str | None, ...], pd.DataFrame] = {}
    for each in study.verdicts.values():
        if each.null is not None and each.errors is not None:
            part = None if each.held_to == each.null.name else each.held_to
            arms[each.held_back, each.null.name, part].append(each.name)
            tables[each.held_back, each.null.name, part] = each.errors
    return {
        f"{key[0]} ({f'{key[2]} of the ' if key[2] else ''}null of {', '.join(names)})": (
            error_rates_of(tables[key])
        )
        for key, names in arms.items()
    }


def nulls_of(study: Study) -> dict[str, Any]:
    """Content of `nulls.json`: which null each arm was held against, and what it lets one see."""
    arms = {
        name: None
        if verdict.null is None
        else {
            "null": verdict.null.name,
            "change": verdict.null.change,
            "smallest_p": verdict.null.smallest_p(),
            "power": power(verdict.null).to_dict("records"),
            "held_back": verdict.held_back,
        }
        for name, verdict in study.verdicts.items()
    }
    sizes = {name: vars(change) for name, change in study.changes.items()}
    return to_json({"arms": arms, "changes": sizes})


def _dictionary(meta: Mapping[str, Any]) -> Dictionary:
    metrics = meta.get("metrics") or {}
    keys = ("fvu", "l0", "ce_recovered", "dead_fraction")
    return Dictionary(*(metrics.get(key) for key in keys))


def _maybe(found: Interval | None, **null: float | None) -> Measured | None:
    return None if found is None else _measured(found, **null)


def _measured(found: Interval, **null: float | None) -> Measured:
    plain = [to_json(float(each)) for each in found]
    return Measured(*plain, **null)


def _personas(study: Study) -> dict[str, Persona]:
    carriers = study.carriers
    probe, ideal = _by_persona(carriers.probe), _by_persona(carriers.ideal)
    out = {}
    for row in carriers.best().to_dict("records"):
        name = str(row["persona"])
        out[name] = Persona(
            latent=int(row["latent"]),
            auroc=float(row["auroc"]),
            auroc_low=float(row["auroc_low"]),
            auroc_high=float(row["auroc_high"]),
            probe_auroc=probe.get(name),
            ideal_auroc=ideal.get(name),
            q_value=float(row["q_value"]),
            confirmed=bool(row["confirmed"]),
        )
    return out


def _contexts(scores: pd.DataFrame) -> dict[str, Context]:
    return {
        str(name): Context(
            n_tokens=int(rows["n_tokens"].iloc[0]),
            n_personas=len(rows),
            chosen_here=bool(rows["at_home"].iloc[0]),
            **{key: _spread(rows[key].to_numpy(float)) for key in SCORES if key in rows},
        )
        for name, rows in scores.groupby("context", sort=True)
    }


def _spread(values: np.ndarray) -> Spread | None:
    """Over the personas that have a value; None where none has."""
    known = values[~np.isnan(values)]
    return Spread(*np.quantile(known, (0.5, 0.0, 1.0)).tolist()) if len(known) else None


def _by_persona(scores: pd.DataFrame | None) -> dict[str, float]:
    """AUROC of every persona that has one."""
    rows = [] if scores is None else scores.to_dict("records")
    found = {str(row["persona"]): float(row["auroc"]) for row in rows}
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _arm(study: Study, comparison: Comparison, name: str, organism: Mapping[str, Any]) -> Arm:
    verdict, change = study.verdicts[name], study.changes[name]
    grown = organism.get("arms", {}).get(name, {})
    inherited = verdict.fates.loc[verdict.fates["origin"] == "base"]
    carried = inherited.loc[inherited["persona"].notna() & inherited["q_value"].notna()]
    n_repurposed = int(carried["fate"].isin(REPURPOSED).sum())
    null = verdict.null
    fvus = [comparison.fidelity[name].high for name in null.names] if null else []
    fvu_high = float(max(fvus)) if fvus else None
    repurposed = share_interval(n_repurposed, len(carried)) if null and len(carried) else None
    return Arm(
        fates={str(f): int(n) for f, n in verdict.fates["fate"].value_counts().items()},
        repurposed_share=_maybe(repurposed),
        novel_share=_maybe(verdict.novel),
        in_span_share=_share(comparison, name, "latents"),
        in_span_share_likes=_beside(comparison.likes.get(name)),
        in_contrast_span_share=_share(comparison, name, "contrasts"),
        in_dialect_span_share=_share(comparison, name, "dialects"),
        mean_shift=_mean_shift(study, name, null.names if null else ()),
        unstable_subspace=_subspace(verdict),
        fidelity_fvu=_maybe(comparison.fidelity.get(name), null_high=fvu_high),
        kl_shares=_kl_shares(comparison, name, null.names if null else ()),
        persona_kl_share=_beside(comparison.persona_kl.get(name)),
        behaviour=grown.get("behaviour") or {},
        size=Size(change.weights, change.activations, change.kl),
        early_excess=_early(grown.get("early_excess")),
        learned=grown.get("learned"),
        null=null.name if null else None,
        kind="pole" if name == study.config.pole else grown.get("role", "arm"),
        is_contrast=grown.get("use", "demo") == "demo",
        about=grown.get("about"),
    )


def _mean_shift(study: Study, name: str, nulls: Sequence[str]) -> Measured:
    there = [float(study.nulls.seen[null].mean_shift.value) for null in nulls]
    ends = {"null_low": to_json(min(there)), "null_high": to_json(max(there))} if there else {}
    return _measured(study.seen[name].mean_shift, **ends)


def _subspace(verdict: Verdict) -> dict[str, Measured]:
    found = verdict.subspace
    if found is None:
        return {}
    least, most = to_json(found.least_agreement), to_json(found.most_gain)
    gain = _measured(found.gain, null_low=None if most is None else -most, null_high=most)
    return {"agreement": _measured(found.agreement, null_low=least), "gain": gain}


def _early(found: Mapping[str, float] | None) -> Measured | None:
    return None if found is None else Measured(*(found[k] for k in ("value", "low", "high")))


def _share(comparison: Comparison, name: str, span: str) -> Measured | None:
    found = comparison.shares.get((name, span))
    return None if found is None else _beside((found.share, found.null))


def _beside(found: Beside | None) -> Measured | None:
    if found is None:
        return None
    value, (low, high) = found
    return _measured(value, null_low=to_json(low), null_high=to_json(high))


def _kl_shares(comparison: Comparison, name: str, nulls: Sequence[str]) -> dict[str, Measured]:
    if name not in comparison.kl:
        return {}
    there = [comparison.kl[null]["share"].to_numpy(float) for null in nulls]
    found = {}
    for i, row in enumerate(comparison.kl[name].to_dict("records")):
        part, beside = str(row["part"]), [float(each[i]) for each in there]
        if part.startswith("novel"):
            if not there:  # nothing was asked of its latents
                found[part] = Measured(None)
                continue
            beside = []  # of a null's checkpoint nothing is called novel
        ends = {"null_low": min(beside), "null_high": max(beside)} if beside else {}
        share = Interval(row["share"], row["share_low"], row["share_high"])
        found[part] = _measured(share, **{end: to_json(each) for end, each in ends.items()})
    return found


def _pair(pair: Any) -> SpanDifference:
    value, low, high = (float(each) for each in pair.interval)
    excludes = bool(low > 0 or high < 0)
    return SpanDifference(
        pair.text,
        list(pair.arms),
        value,
        low,
        high,
        excludes,
        list(pair.checkpoints),
        [float(each) for each in pair.kl],
        *pair.null,
    )


def _power(verdict: Verdict) -> Power:
    assert verdict.null is not None
    return power_of(power(verdict.null), verdict.null.smallest_p())


def _controls(study: Study) -> dict[str, ControlRates]:
    return {
        each.control.name: ControlRates(
            each.control.matched,
            {null: error_rates_of(table) for null, table in each.errors.items()},
        )
        for each in study.controls
    }
