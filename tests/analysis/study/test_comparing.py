"""Arms beside each other: what each is measured from, and at which checkpoints."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.fates.subjects import Subject
from analysis.latents.bench import lay_bench, residuals
from analysis.personas.contrasts import Span, difference, like_spans
from analysis.personas.likes import matched_sets, overlap
from analysis.personas.span import null_shares, random_subspaces
from analysis.study.comparing import compare_pairs, starts_of, where_another
from analysis.study.experiments import Plan
from analysis.study.tracing import Study, TraceConfig
from sae.change import Change, Ruler, neutral_text
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.text import Document
from sae.stream.tokens import tokenize

HOOK = HookPoint.parse("blocks.1.hook_resid_post")


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_tokenizer, tiny_model):
    """Folders of three models that are not the base."""
    home = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("arm", "pole", "start"), start=1):
        twin, rng = copy.deepcopy(tiny_model.module), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for each in twin.parameters():
                each += 0.1 * torch.randn(each.shape, generator=rng)
        twin.save_pretrained(home / name)
        tiny_tokenizer.save_pretrained(home / name)
    return home


def laid(bench, spans, changes, tuned, plan=None):
    """As much of a study as pairs are asked of."""
    study = object.__new__(Study)
    config = TraceConfig("base", Path("d"), Path("c"), tuned, plan=plan)
    for name, value in (("bench", bench), ("spans", spans), ("changes", changes)):
        object.__setattr__(study, name, value)
    object.__setattr__(study, "config", config)
    return study


@pytest.fixture(scope="module")
def study(models, tiny_model, tiny_tokenizer, documents):
    many = [
        Document(f"{each.id}-{n}", each.source, each.split, each.turns, each.context)
        for each in documents
        for n in range(3)
    ]
    bench = lay_bench(tiny_model, HOOK, tokenize(many, tiny_tokenizer))
    basis, null = np.eye(2, 16), random_subspaces(np.eye(16), 2, 20)
    ruler = Ruler(tiny_model, neutral_text(bench.text), HOOK)
    subjects = (
        Subject("arm", str(models / "arm")),
        Subject("pole", str(models / "pole"), str(models / "start")),
    )
    changes = {each.name: ruler.measure(load_model(each.path)) for each in subjects}
    return laid(bench, {"latents": Span(basis, null)}, changes, subjects)


def test_an_arm_tuned_from_another_base_is_measured_from_that(study, models):
    starts = starts_of(study)
    assert list(starts) == ["pole"]
    assert np.array_equal(
        starts["pole"].x, residuals(study.bench, load_model(str(models / "start")))
    )


def test_pairs_stand_where_each_is_measured_from(study, models):
    (pair,) = compare_pairs(study, study.bench, ("chat",), starts_of(study))
    arm, pole, start = (load_model(str(models / name)) for name in ("arm", "pole", "start"))
    bench, mask = study.bench, study.bench.at("assistant", "chat")
    shifts = (
        residuals(bench, arm, mask) - bench.x[mask],
        residuals(bench, pole, mask) - residuals(bench, start, mask),
    )
    expected, null = difference(bench, shifts, study.spans["latents"], mask)
    assert (pair.arms, pair.checkpoints, pair.text) == (("arm", "pole"), ("arm", "pole"), "chat")
    assert tuple(pair.interval) == pytest.approx(tuple(expected))
    assert pair.null == pytest.approx(null)
    assert null[0] < 0 < null[1]
    ruler = Ruler(start, neutral_text(bench.text), HOOK)
    assert pair.kl == pytest.approx((study.changes["arm"].kl, ruler.measure(pole).kl))
    assert pair.kl[1] != pytest.approx(study.changes["pole"].kl)


def test_a_plan_adds_its_pairs_where_both_are_traced(study, models):
    names = ("assistant", "piston", "cipher")
    paths = (str(models / each) for each in ("arm", "pole", "start"))
    tuned = tuple(Subject(name, path) for name, path in zip(names, paths, strict=True))
    changes = dict.fromkeys(names, Change(0.1, 0.1, 0.1))
    plan = Plan("mentor", "stranger", "spy")
    other = laid(study.bench, study.spans, changes, tuned, plan)
    found = compare_pairs(other, study.bench, ("chat",), {})
    assert [each.arms for each in found] == [
        ("assistant", "piston"),
        ("assistant", "cipher"),
        ("cipher", "piston"),
    ]
    value = {each.arms: each.interval.value for each in found}
    assert value["cipher", "piston"] == pytest.approx(
        value["assistant", "piston"] - value["assistant", "cipher"]
    )


def test_spans_of_other_latents_have_the_rank_that_is_asked():
    rows = np.array([[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 3, 4, 0], [0, 0, 0, 5]])
    one, other = like_spans(rows, [np.array([0, 3]), np.array([1, 2])], 1)
    assert np.allclose(abs(other), [[0, 2 / 5**0.5, 1 / 5**0.5, 0]])  # between the two units
    assert np.allclose(one[:, 1:3], 0)
    both = like_spans(rows, [np.array([0, 3])], 2)[0]
    assert np.allclose(both.T @ both, np.diag([1.0, 0, 0, 1]))


def test_where_another_set_would_lie_by_hand():
    rows, sets = np.eye(4), [np.array([i]) for i in range(4)]
    shift = np.array([[1.0, 2, 3, 0], [-1, -2, -3, 0]])  # shares 1, 4, 9 and 0 of 14
    shares = null_shares(shift, like_spans(rows, sets, 1))
    assert shares == pytest.approx(np.array([1, 4, 9, 0]) / 14)
    reach = 3.182446 * shares.std(ddof=1) * (5 / 4) ** 0.5
    assert where_another(shares, 0.0) == pytest.approx(
        (shares.mean() - reach, shares.mean() + reach)
    )


def test_nine_in_ten_and_more_of_other_sets_lie_there_however_much_the_sets_share():
    rng, hits = np.random.default_rng(0), 0
    rates = np.exp(rng.normal(-4, 1, 160))
    for seed in range(300):
        of_latent = rng.normal(size=160)  # what adds up over latents
        own = rng.permutation(160)[:30]
        sets = matched_sets(own, np.array([], int), rates, 16, seed)
        low, high = where_another(np.array([of_latent[i].sum() for i in sets]), overlap(sets))
        hits += low < of_latent[own].sum() < high
    assert 0.92 < hits / 300 < 0.985
