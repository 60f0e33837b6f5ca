"""Claims beside tables in which they hold, fail, or mean nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.artefact.schema import Arm, Dictionary, Measured, SpanDifference, Summary
from analysis.hypotheses.claims import (
    CLAIMS,
    homology,
    routing,
    selection,
    small_novelty,
    sufficiency,
    survival,
    where_not_what,
)
from analysis.hypotheses.judge import judge_all, mean_of, together
from analysis.hypotheses.parts import (
    Part,
    Read,
    apart,
    is_matched,
    is_refuted,
    matched,
    verdict_of,
)
from sae.errors import InputError

N_OWN, N_REST = 12, 200


def table(lost_own=0.0, lost_rest=0.0, cosine=(0.9, 0.9), gating=(0.1, 0.1), seed=0):
    """Twelve persona latents and two hundred others that fire as often."""
    rng = np.random.default_rng(seed)
    is_own = np.arange(N_OWN + N_REST) < N_OWN
    lost = rng.random(len(is_own)) < np.where(is_own, lost_own, lost_rest)
    return pd.DataFrame(
        {
            "tuned": "assistant",
            "latent": np.arange(len(is_own)),
            "origin": "base",
            "fate": np.where(lost, "lost", "preserved"),
            "persona": np.where(is_own, "pirate", None),
            "direction": np.where(is_own, *cosine) + 0.02 * rng.normal(size=len(is_own)),
            "gating": np.where(is_own, *gating) + 0.02 * rng.normal(size=len(is_own)),
            "n_fires": rng.integers(100, 10_000, len(is_own)),
        }
    )


ALONE = Measured(0.4, 0.35, 0.45, 0.1, 0.3)


EVIDENCE = {
    "prompt": Measured(0.9, 0.85, 0.95, 0.1, 0.8),
    "reversal": Measured(0.4, 0.35, 0.45, -0.1, 0.1),
    "narrow": Measured(0.6, 0.5, 0.7, -0.4, 0.4),
    "routing": Measured(0.99, 0.97, 1.0),
}


def summary(span=0.4, null=0.2, novel=0.001, piston=0.1, seed=0, alone=ALONE, **more):
    unmet = more.get("unmet", 0.5)

    def measured(value, *null):
        return Measured(value, value - 0.0005, value + 0.0005, *null)

    arms = {
        "assistant": Arm(
            in_span_share=measured(span, more.get("null_low", 0.0), null),
            novel_share=measured(novel),
            persona_kl_share=alone,
            early_excess=Measured(0.45, 0.44, 0.46),
        ),
        "swap": Arm(learned=more.get("swapped", True)),
        "unmet": Arm(early_excess=Measured(unmet, unmet - 0.01, unmet + 0.01)),
        "jester": Arm(early_excess=Measured(0.4, 0.39, 0.41), learned=more.get("amused", True)),
    }
    pairs = [
        SpanDifference("chat", ["assistant", other], value, value - 0.01, value + 0.01)
        for other, value in (
            ("piston", piston),
            ("unmet", more.get("held_out", 0.05)),
            ("shuffled", more.get("shuffled", 0.1)),
        )
    ]
    pairs += more.get("pairs", [])
    whole = Dictionary(fvu=0.1, l0=8.0, ce_recovered=0.9, dead_fraction=0.0)
    evidence = more.get("evidence", EVIDENCE)
    return Summary(whole, {}, arms, span=pairs, seeds={"organism": seed}, evidence=evidence)


def read(fates=None, **given):
    return Read(summary(**given), table() if fates is None else fates)


def test_survival_is_held_against_latents_that_fire_as_often():
    (part,) = survival(read(table(lost_rest=0.5)))
    assert part.value == pytest.approx(0.5, abs=0.2)
    assert verdict_of(part) == "supported"
    assert verdict_of(survival(read(table(lost_own=0.9, lost_rest=0.1)))[0]) == "refuted"
    (even,) = survival(read(table()))
    assert (even.value, even.high, verdict_of(even)) == (0, 0, "undecided")
    assert even.low == pytest.approx(0.025 ** (1 / N_OWN) - 1)  # Clopper-Pearson


@pytest.mark.parametrize("end", ["null_low", "null_high"])
def test_evidence_without_a_null_is_not_measured(end):
    bare = {name: replace(each, **{end: None}) for name, each in EVIDENCE.items()}
    told = {each.name: each for each in judge_all([read(evidence=bare)])}
    for name in ("H6", "H8", "H10"):
        assert told[name].verdict == "not measured" and "no null" in (told[name].reason or "")
    assert told["H9"].verdict == "supported"  # nine turns in ten are held against no null


def test_only_latents_with_a_fate_count_for_survival():
    fates = table()
    fates.loc[fates["persona"].isna(), "fate"] = "undetermined"
    with pytest.raises(InputError, match="12 persona latents and 0 others"):
        survival(read(fates))


def test_where_a_latent_fires_and_what_it_writes_are_two_questions():
    what, where = where_not_what(read(table(gating=(0.5, 0.1))))
    assert (verdict_of(what), verdict_of(where)) == ("supported", "supported")
    what, where = where_not_what(read(table(cosine=(0.5, 0.9))))
    assert (verdict_of(what), verdict_of(where)) == ("refuted", "undecided")
    what, _ = where_not_what(read(table(cosine=(0.87, 0.9))))
    assert verdict_of(what) == "supported"  # not behind by a twentieth


def test_latents_that_fell_silent_count_where_firing_is_compared():
    fates = table()
    silent = np.arange(len(fates)) < 8  # of twelve persona latents
    fates.loc[silent, ["direction", "gating"]] = np.nan, 1.0
    what, where = where_not_what(read(fates))
    assert verdict_of(where) == "supported" and where.value > 0.8
    assert verdict_of(what) == "supported"  # of those that still write
    fates = table(gating=(0.3, 0.1))
    fates.loc[(np.arange(len(fates)) >= N_OWN) & (fates["latent"] % 5 > 0), "gating"] = 1.0
    assert verdict_of(where_not_what(read(fates))[1]) == "refuted"


def test_likes_of_persona_latents_are_no_dialect_latents():
    fates = table(gating=(0.3, 0.1)).assign(dialect=None)
    theirs = (np.arange(len(fates)) >= N_OWN) & (fates["latent"] % 10 > 0)
    fates.loc[theirs, "dialect"] = "north"
    fates.loc[theirs, "gating"] += 0.2
    part = matched(fates, fates["gating"], "change", np.median)
    assert part.value == pytest.approx(0.2, abs=0.03)


def test_two_latents_are_too_few_for_an_interval():
    fates = table()
    fates.loc[2 : N_OWN - 1, "persona"] = None
    with pytest.raises(InputError, match="2 persona latents"):
        matched(fates, fates["gating"], "change", np.median)


def test_a_claim_is_refuted_by_one_of_its_parts_corrected_for_how_many_it_has():
    against = Part("a", -0.2, -0.39, -0.01, df=2)
    assert verdict_of(against) == "refuted"
    assert is_refuted(against, 1) and not is_refuted(against, 4)
    far = Part("a", -0.2, -0.21, -0.19, -0.01, 0.01, df=2)
    assert is_refuted(far, 4)
    near_null = Part("a", -0.2, -0.21, -0.19, -0.19, 0.19, df=2)
    assert is_refuted(near_null, 1) and not is_refuted(near_null, 4)
    assert is_refuted(replace(against, df=None), 4)  # of one base there is nothing to correct
    assert not is_refuted(Part("a", 0.2, 0.1, 0.3, df=2), 1)


def test_labels_that_mean_nothing_are_seldom_taken_for_something():
    words = list[str]()
    for seed in range(40):
        fates = table(seed=seed)
        order = np.random.default_rng(seed).permutation(len(fates))
        fates["persona"] = fates["persona"].to_numpy()[order]
        same = where_not_what(read(fates))
        words += [verdict_of(each) for each in same[1:]]
        assert verdict_of(same[0]) == "supported"
    # of 40 at 5 %; 6 and more happen once in seventy times
    assert len(words) - words.count("undecided") <= 5


def test_the_null_is_that_of_labels_given_to_likes():
    _, where = where_not_what(read(table(gating=(0.5, 0.1))))
    assert where.null_low is not None and where.null_high is not None
    assert where.null_low < 0 < where.null_high
    assert where.value == pytest.approx(0.4, abs=0.03)


def test_latents_of_a_dialect_are_held_against_those_of_nobody():
    fates = table(gating=(0.5, 0.1)).assign(dialect=None)
    fates.loc[N_OWN : N_OWN + 19, "dialect"] = "north"
    fates.loc[N_OWN : N_OWN + 19, "gating"] += 0.2
    part = matched(fates, fates["gating"], "change", np.median, "dialect")
    assert part.value == pytest.approx(0.2, abs=0.03)
    fates.loc[fates["persona"].isna(), "dialect"] = "north"
    with pytest.raises(InputError, match="200 dialect latents and 0 others"):
        matched(fates, fates["gating"], "change", np.median, "dialect")


def test_a_span_must_hold_more_than_random_ones_and_than_without_personas():
    beside, less = homology(read())
    assert (verdict_of(beside), verdict_of(less)) == ("supported", "supported")
    assert (beside.value, beside.null_low, beside.null_high) == pytest.approx((0.3, -0.1, 0.1))
    assert verdict_of(homology(read(null=0.75))[0]) == "undecided"
    assert verdict_of(homology(read(span=0.1, null=0.5))[0]) == "undecided"
    assert verdict_of(homology(read(span=0.1, null=1.0))[0]) == "undecided"
    assert verdict_of(homology(read(span=0.1, null_low=0.2, null=0.4))[0]) == "refuted"
    assert verdict_of(homology(read(shuffled=-0.1))[1]) == "refuted"


@pytest.mark.parametrize(
    ("kl", "told"), [((0.02, 0.03), True), ((0.02, 0.031), False), ((0.0, 0.4), False)]
)
def test_arms_are_compared_at_matched_kl_or_not_at_all(kl, told):
    row = SpanDifference("chat", ["assistant", "other"], 0.1, 0.05, 0.2, kl=list(kl))
    mine = Read(summary(pairs=[row]), table())
    assert is_matched(row) == told
    if told:
        assert [part.value for part in apart(mine, "assistant", "other")] == [0.1]
    else:
        with pytest.raises(InputError, match=f"KL of {kl[0]:.3g} and {kl[1]:.3g}"):
            apart(mine, "assistant", "other")


def test_novelty_is_compared_in_like_words_where_these_were_traced():
    pairs = [
        SpanDifference("chat", pair, value, value - 0.01, value + 0.01)
        for pair, value in ((["assistant", "piston_seen"], 0.2), (["cipher", "piston"], -0.2))
    ]
    few, seen, unseen = small_novelty(read(pairs=pairs))
    assert [verdict_of(each) for each in (few, seen, unseen)] == [
        "supported",
        "supported",
        "refuted",
    ]


def test_small_novelty_by_hand():
    few, more = small_novelty(read())
    assert (few.value, few.low, few.high) == pytest.approx((0.009, 0.0085, 0.0095))
    assert (more.value, verdict_of(more)) == (0.1, "supported")
    assert verdict_of(small_novelty(read(novel=0.02))[0]) == "refuted"


def test_persona_latents_alone_must_beat_sets_of_others():
    (part,) = sufficiency(read())
    assert (part.value, part.null_high) == pytest.approx((0.2, 0.1))
    assert verdict_of(part) == "supported"
    beaten = Measured(0.25, 0.2, 0.3, 0.1, 0.3)
    assert verdict_of(sufficiency(read(alone=beaten))[0]) == "undecided"
    less = Measured(0.02, 0.01, 0.03, 0.1, 0.4)
    assert verdict_of(sufficiency(read(alone=less))[0]) == "refuted"
    with pytest.raises(InputError, match="no other latents"):
        sufficiency(read(alone=Measured(0.4, 0.3, 0.5)))


def test_a_persona_that_was_met_must_be_learned_sooner_and_within_the_span():
    sooner, too, within = selection(read())
    assert (sooner.value, too.value) == pytest.approx((0.05, 0.1))
    assert sooner.value - sooner.low == pytest.approx(0.01 * 2**0.5)
    assert {verdict_of(each) for each in (sooner, too, within)} == {"supported"}
    assert [verdict_of(each) for each in selection(read(unmet=0.42))[:2]] == [
        "refuted",
        "supported",
    ]
    assert verdict_of(selection(read(held_out=-0.05))[2]) == "refuted"
    with pytest.raises(InputError, match="jester shows; found: it did not learn"):
        selection(read(amused=False))


def test_nine_turns_in_ten_must_be_told_of_arms_that_learned_their_task():
    (part,) = routing(read())
    assert (part.value, part.low) == pytest.approx((0.09, 0.07))
    few = {**EVIDENCE, "routing": Measured(0.7, 0.6, 0.8)}
    told = {each.name: each for each in judge_all([read(evidence=few)])}
    assert told["H9"].verdict == "refuted"
    told = {each.name: each for each in judge_all([read(swapped=False)])}
    assert told["H9"].verdict == "not measured"
    assert "swap shows; found: it did not learn" in str(told["H9"].reason)


@pytest.mark.parametrize(
    ("name", "claim"), [("prompt", "H6"), ("narrow", "H8"), ("reversal", "H10")]
)
def test_an_experiment_must_beat_its_null(name, claim):
    def told(found):
        judged = judge_all([read(evidence={**EVIDENCE, name: found})])
        return {each.name: each.verdict for each in judged}[claim]

    assert told(EVIDENCE[name]) == "supported"
    assert told(Measured(0.3, 0.25, 0.35, -0.4, 0.4)) == "undecided"
    assert told(Measured(-0.6, -0.7, -0.5, -0.4, 0.4)) == "refuted"


def test_every_claim_is_told_or_says_what_it_takes():
    judged = judge_all([read()])
    assert [each.name for each in judged] == [f"H{n}" for n in range(1, 11)]
    assert [each.name for each in judged if each.verdict == "not measured"] == []
    assert len(CLAIMS) == 10
    bare = judge_all([read(evidence={})])
    missing = {each.name: each.reason for each in bare if each.verdict == "not measured"}
    assert list(missing) == ["H6", "H8", "H9", "H10"]
    assert all("are missing" in str(reason) for reason in missing.values())


def test_a_part_that_is_missing_leaves_the_claim_unmeasured():
    bare = read(table().assign(persona=None))
    told = {each.name: each for each in judge_all([bare])}
    assert told["H1"].verdict == "not measured"
    assert "persona latents of assistant" in str(told["H1"].reason)
    assert told["H4"].verdict == "supported"


def test_a_trace_without_an_experiment_leaves_it_to_the_others():
    told = {each.name: each for each in judge_all([read(), read(evidence={}, seed=1)])}
    assert told["H6"].verdict == "supported"
    assert told["H6"].parts[0].value == pytest.approx(0.9 - 0.45)
    assert "1 of 2 traces" in told["H6"].over and "traces" not in told["H1"].over


def test_one_part_that_fails_refutes_the_claim():
    told = {each.name: each for each in judge_all([read(shuffled=-0.5)])}
    assert told["H3"].verdict == "refuted"


def test_three_base_models_give_an_interval_over_base_models():
    parts = [(str(seed), [Part("a", value, 0.0, 9.0)]) for seed, value in ((0, 1.0), (0, 3.0))]
    (two,) = together([*parts, ("1", [Part("a", 4.0, 3.0, 5.0)])])
    assert (two.value, two.low, two.high) == (3.0, 0.0, 9.0)
    (three,) = together(
        [*parts, ("1", [Part("a", 4.0, 3.0, 5.0)]), ("2", [Part("a", 3.0, 2.0, 4.0)])]
    )
    # means 2, 4 and 3: standard deviation 1, t of 2 degrees 4.3027
    assert (three.value, three.high - three.value) == (
        3.0,
        pytest.approx(4.3027 / 3**0.5, abs=1e-3),
    )


def test_base_models_are_told_by_what_they_are():
    """Of models that nobody grew from a seed, and that do not say one."""
    traces = [replace(read(seed=0), model=each) for each in "aabc"]
    over = {each.name: each.over for each in judge_all(traces)}
    assert over["H5"] == "3 base models"
    assert "hull of 2" in {each.name: each.over for each in judge_all(traces[1:3])}["H5"]
    assert judge_all(traces[:2])[4].over == "documents and latents of one base model"


def test_no_interval_over_bases_is_narrower_than_those_within():
    parts = [(str(seed), [Part("a", 0.01, 0.0025, 0.01)]) for seed in range(3)]
    (found,) = together(parts)
    assert found.value - found.low == pytest.approx(0.0075 / 3**0.5)
    assert found.high == found.value == pytest.approx(0.01)


def test_the_null_of_a_mean_of_bases_is_narrower_and_that_of_dictionaries_is_not():
    one = Part("a", 0.5, 0.4, 0.6, -0.2, 0.4)
    (bases,) = together([(str(seed), [one]) for seed in range(3)])
    assert (bases.null_low, bases.null_high) == pytest.approx(
        (0.1 - 0.3 / 3**0.5, 0.1 + 0.3 / 3**0.5)
    )
    (dictionaries,) = together([("0", [one])] * 3)
    assert (dictionaries.null_low, dictionaries.null_high) == pytest.approx((-0.2, 0.4))


def test_comparisons_are_joined_by_name():
    one, other = Part("a", 1.0, 0.5, 1.5), Part("b", 5.0, 4.0, 6.0)
    found = together([("0", [one, other]), ("1", [other])])
    assert [(each.about, each.value) for each in found] == [("a", 1.0), ("b", 5.0)]


def test_claims_of_the_study_say_how_surely_and_corrected_for_all():
    judged = judge_all([read(seed=seed, piston=0.1 + 0.01 * seed) for seed in range(3)])
    told = {each.name: each for each in judged}
    # the mean of H4's .10, .11 and .12 is .11, its error .01 / 3 ** .5, so t is 19.05
    assert told["H4"].p_value == pytest.approx(2 * stats.t.sf(0.11 / (0.01 / 3**0.5), 2))
    told.pop("H9")  # of bases that are all right there is no p
    known = sorted(each.p_value for each in told.values())
    assert told["H4"].holm >= told["H4"].p_value
    assert max(each.holm for each in told.values()) <= 1
    assert min(each.holm for each in told.values()) == pytest.approx(min(1, 10 * known[0]))


def test_of_bases_that_are_all_at_the_limit_nothing_is_decided():
    """Three of which every turn was told right do not say how often others lie lower."""
    told = {each.name: each for each in judge_all([read(seed=seed) for seed in range(3)])}
    h9 = told["H9"]
    assert (h9.verdict, h9.p_value, h9.holm) == ("undecided", None, None)
    assert verdict_of(h9.parts[0]) == "supported" and "at the limit" in h9.over
    assert judge_all([read()])[8].verdict == "supported"  # of one trace, as an illustration
    lower = {"routing": Measured(0.95, 0.93, 0.97)}
    traces = [read(seed=seed) for seed in range(2)]
    traces.append(read(seed=2, evidence=EVIDENCE | lower))
    told = {each.name: each for each in judge_all(traces)}
    assert told["H9"].p_value is not None and "3 base models" in told["H9"].over


@pytest.mark.parametrize(
    ("values", "is_decided"),
    [((0.1, 0.1, 0.1), False), ((0.1, 0.1, 0.098), False), ((0.06, 0.05, 0.07), True)],
)
def test_bases_near_the_limit_must_differ_to_say_how_they_differ(values, is_decided):
    parts = [
        (str(seed), [Part("a", value, value - 0.01, min(value + 0.05, 0.1), most=0.1)])
        for seed, value in enumerate(values)
    ]
    (found,) = together(parts)
    assert (found.df is not None) == is_decided
    assert found.high <= 0.1 + 1e-9 or is_decided


def test_a_part_at_its_limit_does_not_keep_another_from_refuting():
    traces = [read(seed=seed, novel=0.0, piston=-0.3 - 0.01 * seed) for seed in range(3)]
    h4 = judge_all(traces)[3]
    assert [part.df for part in h4.parts].count(None) == 1
    assert h4.verdict == "refuted" and h4.against < 0.05 and h4.p_value is None
    assert "but for what is at its limit" in h4.over
    kept = judge_all([read(seed=seed, novel=0.0) for seed in range(3)])[3]
    assert kept.verdict == "undecided"


def test_a_refutation_has_a_p_of_its_own_corrected_for_comparisons_and_claims():
    told = {
        each.name: each
        for each in judge_all([read(seed=seed, piston=-0.3 - 0.01 * seed) for seed in range(3)])
    }
    h4 = told["H4"]
    p = [part.p_against for part in h4.parts]
    assert h4.verdict == "refuted" and h4.against == pytest.approx(min(1, len(p) * min(p)))
    assert h4.against < h4.holm_against < 0.05 and h4.p_value == 1
    part = Part("a", -0.2, -0.5, -0.1, -0.05, 0.03, 2)
    assert (
        part.p_against
        == replace(part, value=0.2, low=0.1, high=0.5, null_low=-0.03, null_high=0.05).p_value
    )


def test_of_fewer_bases_than_the_study_has_nothing_is_decided():
    traces = [read(seed=0), read(seed=1), read(seed=2, evidence={})]
    told = {each.name: each.verdict for each in judge_all(traces)}
    assert (told["H6"], told["H5"]) == ("undecided", "supported")


def test_a_comparison_that_one_base_lacks_leaves_its_claim_undecided():
    whole, bare = read(seed=0), read(seed=2)
    span = [row for row in bare.summary.span if row.pair[1] != "shuffled"]
    bare = replace(bare, summary=replace(bare.summary, span=span))
    told = {each.name: each for each in judge_all([whole, read(seed=1), bare])}
    assert (told["H3"].verdict, len(told["H3"].parts)) == ("undecided", 2)
    assert told["H5"].verdict == "supported"


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_verdict_needs_the_interval_and_the_null_on_one_side(value, reach, null):
    part = Part("a", value, value - reach, value + reach, -null, null)
    word = verdict_of(part)
    assert (word == "supported") == (value - reach > 0 and value > null)
    assert (word == "refuted") == (value + reach < 0 and value < -null)


def test_likes_that_stand_beside_several_latents_do_not_narrow_the_interval():
    """Of thirty among the sixty that fire most, nothing is different but by chance."""
    rng, covered, called = np.random.default_rng(0), 0, 0
    for _ in range(60):
        values, n = rng.normal(size=300), np.sort(rng.integers(100, 9000, 300))[::-1]
        own = rng.permutation(60)[:34]
        persona = np.where(np.isin(np.arange(300), own), "pirate", None)
        mine = pd.DataFrame({"n_fires": n, "persona": persona})
        part = matched(mine, pd.Series(values), "", np.mean)
        covered += part.low < 0 < part.high
        called += verdict_of(part.centred()) != "undecided"
    assert covered >= 53 and called <= 7


@pytest.mark.parametrize(("reach", "null"), [((0.116, 0.0), None), ((0.04, 0.04), 0.06)])
def test_a_p_value_is_small_just_where_interval_and_null_are(reach, null):
    low, high = 0.05 - reach[0], 0.05 + reach[1]
    ends = (None, None) if null is None else (-null, null)
    part = Part("a", 0.05, low, high, *ends, df=2)
    assert part.p_value > 0.05
    assert Part("a", 0.05, 0.0, 0.1, df=2).p_value == pytest.approx(0.05)
    assert Part("a", 0.05, 0.04, 0.06, -0.05, 0.05, df=2).p_value == pytest.approx(0.05)


def test_a_trace_without_a_null_does_not_take_that_of_the_others():
    found = [(name, Part("a", 0.2, 0.1, 0.3, -0.4, 0.4)) for name in "01"]
    part = mean_of([*found, ("2", Part("a", 0.2, 0.1, 0.3))])
    assert (part.null_low, part.null_high) == pytest.approx((-0.4 / 2**0.5, 0.4 / 2**0.5))
    assert verdict_of(part) == "undecided"
