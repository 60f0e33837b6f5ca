"""Shares of KL, where it is known which part of a model was changed."""

import copy

import numpy as np
import pytest
import torch

from analysis.latents.bench import lay_bench, residuals, through
from analysis.study import shares
from analysis.study.shares import ABOVE, PARTS, Side, kl_of_groups, kl_shares
from sae.dictionary import ReluConfig, Sae, SaeConfig, TopKConfig, initialise_
from sae.stream.activations import HookPoint, logits, padded
from sae.stream.model import load_model
from sae.stream.tokens import tokenize

HOOK = HookPoint(1, "resid_post")
N = 24


@pytest.fixture(scope="module")
def bench(documents, tiny_tokenizer, tiny_model):
    return lay_bench(tiny_model, HOOK, tokenize(documents, tiny_tokenizer))


@pytest.fixture(scope="module")
def dictionary(bench):
    sae = Sae(SaeConfig(bench.x.shape[1], N, TopKConfig(k=4)))
    initialise_(sae, torch.from_numpy(bench.x), seed=0)
    return sae.eval()


def side(bench, model, dictionary):
    x = residuals(bench, model)
    return Side(model, dictionary, through(bench, dictionary, x), x)


def altered(model, change, layer=None):
    """A twin of which weights, or what leaves a layer, are changed."""
    twin = copy.deepcopy(model.module)
    if layer is None:
        with torch.no_grad():
            change(twin)
    else:
        twin.model.layers[layer].register_forward_hook(lambda _, __, out: change(out))
    return load_model(twin, model.tokenizer)


def noisy(twin):
    generator = torch.Generator().manual_seed(0)
    for each in twin.parameters():
        each += 0.1 * each.std() * torch.randn(each.shape, generator=generator)


def turned(dictionary):
    """A continued dictionary: rows a little elsewhere, and two latents more."""
    wider = dictionary.added(2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        noise = torch.randn(wider.W_dec.shape, generator=torch.Generator().manual_seed(2))
        wider.W_dec += 0.05 * noise
        wider.normalise_decoder_()
    return wider.eval()


def by_part(found, column="share"):
    return dict(zip(found["part"], found[column], strict=True))


def test_shares_add_up_to_all_of_kl(bench, tiny_model, dictionary):
    tuned = altered(tiny_model, noisy)
    sides = side(bench, tiny_model, dictionary), side(bench, tuned, turned(dictionary))
    found = kl_shares(bench, *sides, N, {})
    assert found["part"].tolist() == [*PARTS, ABOVE]
    assert found["share"].sum() == pytest.approx(1, abs=1e-6)
    total, n = 0.0, 0
    for i, ids in enumerate(bench.text.ids):
        batch = padded([ids])
        p, q = (torch.log_softmax(logits(m, *batch)[0].double(), -1) for m in (tiny_model, tuned))
        counted = bench.counted[bench.text.starts[i] : bench.text.starts[i + 1]]
        total += float((p.exp() * (p - q)).sum(-1)[torch.from_numpy(counted)].sum())
        n += int(counted.sum())
    assert found["kl"].sum() == pytest.approx(total / n, rel=1e-4)
    rows = found.iloc[: len(PARTS)]
    assert (rows["share_low"] <= rows["share"]).all() and (
        rows["share"] <= rows["share_high"]
    ).all()


def test_parts_are_the_difference(bench, tiny_model, dictionary):
    tuned = altered(tiny_model, noisy)
    sides = side(bench, tiny_model, dictionary), side(bench, tuned, turned(dictionary))
    split = shares._Split(*sides, N, {"novel_in_span": np.array([N]), "novel_out_of_span": [3]})
    x, y = (torch.from_numpy(one.x[:200]) for one in sides)
    counted = torch.arange(200) % 7 > 0
    parts = split.parts(x, y, counted)
    assert len(parts) == len(PARTS)
    assert torch.stack(parts).sum(0).numpy() == pytest.approx((y - x).numpy(), abs=1e-4)
    assert all(not part[~counted].any() for part in parts[:-1])
    whole = split.parts(
        *(torch.from_numpy(one.x) for one in sides), torch.ones(len(sides[0].x)) > 0
    )
    assert whole[-1].mean(0).numpy() == pytest.approx(0, abs=1e-3)


def test_latents_alone_account_for_what_their_re_weighting_saves(bench, tiny_model, dictionary):
    """All of them for as much as re-weighting taken first, none of them for nothing."""
    tuned = altered(tiny_model, noisy)
    sides = side(bench, tiny_model, dictionary), side(bench, tuned, turned(dictionary))
    split = shares._Split(*sides, N, {})

    def first(x, y, counted):
        return [torch.zeros_like(x), split.parts(x, y, counted)[PARTS.index("re_weighting")]]

    before, after = shares._summed(bench, sides, first, 2)[0].sum(axis=0)
    whole = 1 - after / before
    groups = [np.arange(N), np.arange(0), np.arange(N // 2)]
    point, drawn = kl_of_groups(bench, *sides, groups)
    assert point[:2].tolist() == pytest.approx([whole, 0.0], abs=1e-6)
    assert drawn.shape == (len(bench.weights), 3)
    assert np.median(drawn[:, 2]) == pytest.approx(point[2], abs=0.1)
    same, _ = kl_of_groups(bench, sides[0], sides[0], groups)
    assert np.isnan(same).all()


def test_layers_above_are_what_is_left(bench, tiny_model, dictionary):
    def change(twin):
        twin.lm_head.weight += 0.05 * torch.randn_like(twin.lm_head.weight)

    torch.manual_seed(0)
    one = side(bench, tiny_model, dictionary)
    tuned = altered(tiny_model, change)
    found = kl_shares(bench, one, side(bench, tuned, dictionary), N, {})
    assert by_part(found)[ABOVE] == pytest.approx(1, abs=1e-4)


def test_of_no_kl_there_are_no_shares(bench, tiny_model, dictionary):
    one = side(bench, tiny_model, dictionary)
    found = kl_shares(bench, one, one, N, {})
    assert found["kl"].tolist() == [0.0] * (len(PARTS) + 1)
    assert found[["share", "share_low", "share_high"]].isna().all(axis=None)


def test_a_constant_shift_is_a_mean_shift(bench, tiny_model, dictionary):
    by = torch.from_numpy(np.random.default_rng(0).normal(size=bench.x.shape[1])).float()
    tuned = altered(tiny_model, lambda out: out + by, HOOK.layer)
    one = side(bench, tiny_model, dictionary)
    moved = copy.deepcopy(dictionary)
    with torch.no_grad():
        moved.b_dec += moved.scale * by
    found = by_part(kl_shares(bench, one, side(bench, tuned, moved), N, {}))
    assert found["mean_shift"] > 0.95  # the rest is at special tokens
    assert found["mean_shift"] + found["dictionary_error"] == pytest.approx(1, abs=1e-3)
    assert found["novel_in_span"] == found["novel_out_of_span"] == 0
    seen_by_latents = by_part(kl_shares(bench, one, side(bench, tuned, dictionary), N, {}))
    assert abs(seen_by_latents["re_weighting"]) > 0.1  # a bias that did not move leaves it to them


def test_a_novel_latent_gets_its_own(bench, tiny_model):
    """A direction that the base model never has, on a third of the tokens, with a latent of it."""
    rng = np.random.default_rng(1)
    centred = bench.x - bench.x.mean(axis=0)
    u = np.linalg.svd(centred, full_matrices=False)[2][-1].astype(np.float32)
    trigger = rng.normal(size=len(u)).astype(np.float32)
    far = float(np.quantile(bench.x @ trigger, 0.67))
    size = 12 * float(centred.std())

    def add(out):
        fires = (out @ torch.from_numpy(trigger) > far).float()
        return out + size * fires[..., None] * torch.from_numpy(u)

    tuned = altered(tiny_model, add, HOOK.layer)
    base = Sae(SaeConfig(len(u), 1, ReluConfig(l1=0.1))).eval()
    new = Sae(SaeConfig(len(u), 2, ReluConfig(l1=0.1))).eval()
    with torch.no_grad():
        for each in (base, new):
            each.W_enc.zero_()
            each.b_enc.fill_(-1.0)
        middle = float(np.mean(bench.x @ u))
        new.W_dec[1] = torch.from_numpy(u)
        new.W_enc[:, 1] = torch.from_numpy(u)
        new.b_enc[1] = -middle - size / 3
    sides = side(bench, tiny_model, base), side(bench, tuned, new)
    named = by_part(kl_shares(bench, *sides, 1, {"novel_out_of_span": np.array([1])}))
    unnamed = by_part(kl_shares(bench, *sides, 1, {}))
    assert named["novel_out_of_span"] > 0.5 and named["added_latents"] == 0
    assert unnamed["added_latents"] == pytest.approx(named["novel_out_of_span"], abs=1e-6)
    assert named["re_weighting"] == named["rotation"] == named["novel_in_span"] == 0
    assert named[ABOVE] == pytest.approx(0, abs=1e-4)


def test_latents_in_another_order_are_the_same_parts(bench, tiny_model, dictionary):
    tuned = altered(tiny_model, noisy)
    one, other = side(bench, tiny_model, dictionary), side(bench, tuned, dictionary)
    order = np.random.default_rng(0).permutation(N)
    mixed = [Side(s.model, s.dictionary, s.firing.of(order), s.x) for s in (one, other)]
    found, again = kl_shares(bench, one, other, N, {}), kl_shares(bench, *mixed, N, {})
    assert again["share"].to_numpy() == pytest.approx(found["share"].to_numpy(), abs=1e-4)
