import copy
import math

import pytest
import torch

from sae.dictionary import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    TopKConfig,
    initialise_,
)
from sae.errors import ConfigError, InputError, NumericalError
from training.config import TrainConfig
from training.loop import fit
from training.schedules import rate_factor
from training.track import KEYS


def _config(**changes):
    return TrainConfig(**{"n_tokens": 1280, "batch_tokens": 64, "lr": 3e-3, **changes})


KINDS = [
    ReluConfig(l1=0.1),
    TopKConfig(k=3),
    BatchTopKConfig(k=3),
    JumpReluConfig(),
    JumpReluTanhConfig(tanh=0.1),
    JumpReluL0Config(l0=3.0),
    GatedConfig(l1=0.1),
]


@pytest.mark.parametrize("sparsity", KINDS, ids=lambda each: each.kind)
@pytest.mark.parametrize("prefixes", [(), (8, 16)])
def test_each_learns_and_keeps_unit_rows(make_sae, stream, x, run_config, sparsity, prefixes):
    sae, fvu = make_sae(sparsity, prefixes=prefixes), []
    for record in fit(sae, stream(x, 64), run_config):
        fvu.append(record.metrics["fvu"])
        assert torch.allclose(sae.W_dec.norm(dim=-1), torch.ones(48), atol=1e-6)
    assert len(fvu) == run_config.n_steps == record.step
    assert sum(fvu[-5:]) < 0.8 * sum(fvu[:5])
    assert not sae.training


def _end(make_sae, stream, x, sparsity, prefixes=()):
    """Mean FVU and L0 of the last 20 of 300 steps."""
    run = fit(make_sae(sparsity, prefixes=prefixes), stream(x, 64), _config(n_tokens=64 * 300))
    last = [record.metrics for record in run][-20:]
    return [sum(each[name] for each in last) / 20 for name in ("fvu", "l0")]


@pytest.mark.parametrize("prefixes", [(), (8, 16)])
@pytest.mark.parametrize("l0", [2.0, 5.0])
def test_an_l0_aimed_at_is_met(make_sae, stream, x, l0, prefixes):
    fvu, found = _end(make_sae, stream, x, JumpReluL0Config(l0=l0), prefixes)
    assert found == pytest.approx(l0, rel=0.15)
    assert fvu < 0.5


@pytest.mark.parametrize(
    ("little", "much"),
    [
        (JumpReluTanhConfig(tanh=0.03), JumpReluTanhConfig(tanh=0.2)),
        (GatedConfig(l1=0.1), GatedConfig(l1=0.6)),
        (ReluConfig(l1=0.1), ReluConfig(l1=0.3)),
    ],
    ids=lambda each: each.kind,
)
def test_a_penalty_buys_few_fires_with_error(make_sae, stream, x, little, much):
    (fvu, l0), (more, fewer) = (_end(make_sae, stream, x, each) for each in (little, much))
    assert fewer < 0.8 * l0 < 0.8 * 20
    assert fvu < more < 0.7


def test_gates_do_not_shrink_what_they_let_through(make_sae, stream, x):
    gated = _end(make_sae, stream, x, GatedConfig(l1=0.3))
    shrunk = _end(make_sae, stream, x, ReluConfig(l1=0.3))
    assert gated[0] < 0.6 * shrunk[0]
    assert gated[1] < 1.3 * shrunk[1]


def test_the_clock_is_tokens_and_the_rows_hold_known_keys(make_sae, stream, x):
    config = _config(n_tokens=200)
    records = list(fit(make_sae(), stream(x, 64), config))
    assert [record.n_tokens for record in records] == [64, 128, 192, 256]
    assert [record.metrics["lr"] for record in records] == [
        pytest.approx(3e-3 * rate_factor(n, config)) for n in (32, 96, 160, 224)
    ]
    row = records[0].row()
    assert set(row) <= set(KEYS)
    assert row["tokens"] == 64 and row["loss/total"] == pytest.approx(row["loss/reconstruction"])
    assert not records[0].loss.total.requires_grad


def test_the_update_never_lies_along_a_decoder_row(make_sae, stream, x):
    sae = make_sae()
    for record in fit(sae, stream(x, 64), _config()):
        gradient = sae.W_dec.grad
        assert (gradient * record.state.weights["W_dec"]).sum(-1).abs().max() < 2e-3
    first = make_sae()
    rows = first.W_dec.detach().clone()
    next(iter(fit(first, stream(x, 64), _config())))
    assert (first.W_dec.grad * rows).sum(-1).abs().max() < 1e-7


def test_silence_is_counted_in_tokens_whatever_the_batch(make_sae, x):
    silence = []
    for batch_tokens in (32, 128):
        sae = make_sae(TopKConfig(k=1))
        config = _config(batch_tokens=batch_tokens, lr=1e-12, n_tokens=512)
        batches = [each for each in x.split(batch_tokens)]
        *_, last = fit(sae, batches, config)
        silence.append(last.state.n_tokens_since_fired)
    assert torch.equal(*silence)
    assert silence[0].max() == 512


def test_dead_latents_learn_from_the_auxiliary_loss_alone(make_sae, stream, x):
    def fitted(aux_weight):
        """FVU at the end, and whether a latent dead before a step ever had a gradient in it."""
        sae, dead, moved = make_sae(), torch.zeros(48, dtype=torch.bool), False
        with torch.no_grad():
            sae.b_enc[:40] = -2.0
        config = _config(n_tokens=64 * 300, dead_after_tokens=128, aux_weight=aux_weight, lr=1e-2)
        for record in fit(sae, stream(x, 64), config):
            silent = record.state.n_tokens_since_fired >= 128
            assert ("auxiliary" in record.loss.terms) == (aux_weight > 0 and bool(dead.any()))
            moved |= bool((sae.W_enc.grad[:, dead & silent] != 0).any())
            dead = silent
        return record.metrics["fvu"], moved

    (without, unmoved), (with_it, moved) = fitted(0.0), fitted(1 / 32)
    assert moved and not unmoved
    assert with_it < without


def test_the_script_may_evaluate_between_two_records(make_sae, stream, x):
    def losses(disturb):
        sae = make_sae()
        for record in fit(sae, stream(x, 64), _config()):
            if disturb:
                sae.eval()(x)
            yield record.loss.total.item()

    assert list(losses(True)) == list(losses(False))


def test_no_batch_is_drawn_before_it_is_needed(make_sae, stream, x):
    batches = stream(x, 64)
    assert len(list(fit(make_sae(), batches, _config(n_tokens=64 * 3)))) == 3
    assert batches.cursor() == {"fill": 0, "batch": 3}


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_dictionary(make_sae, x):
    sae = make_sae()
    run = fit(sae, [x[:64], x[64:128] * math.nan], _config())
    state = copy.deepcopy(next(run).state)
    with pytest.raises(NumericalError, match="asked: a finite loss; found: .*nan.* at step 2"):
        next(run)
    assert all(torch.equal(sae.state_dict()[name], each) for name, each in state.weights.items()
               if name not in ("sparsity.threshold", "sparsity.n_updates"))  # fmt: skip


def test_batches_that_end_early_are_an_error(make_sae, x):
    with pytest.raises(InputError, match="1,280 tokens; found: batches that ended after 64"):
        list(fit(make_sae(), [x[:64]], _config()))


def test_a_batch_of_another_width_is_named(make_sae, x):
    with pytest.raises(ConfigError, match=r"width 12; found: a batch of shape \[64, 11\]"):
        next(fit(make_sae(), [x[:64, :11]], _config()))


def test_planted_directions_are_found():
    draw = torch.Generator().manual_seed(2)
    planted = torch.nn.functional.normalize(torch.randn(32, 20, generator=draw), dim=-1)
    fires = torch.rand(20_000, 32, generator=draw) < 0.06
    x = (fires * (0.5 + torch.rand(20_000, 32, generator=draw))) @ planted
    sae = Sae(SaeConfig(d_in=20, d_sae=64, sparsity=BatchTopKConfig(k=2)))
    initialise_(sae, x, seed=0)
    config = TrainConfig(
        n_tokens=400_000, batch_tokens=500, lr=3e-3, dead_after_tokens=20_000, seed=0
    )
    batches = [each for _ in range(20) for each in x.split(500)]
    *_, last = fit(sae, batches, config)
    best = (planted @ sae.W_dec.detach().T).max(dim=1).values
    assert (best > 0.9).float().mean() > 0.85, best.sort().values
    assert last.metrics["fvu"] < 0.25


def test_a_first_part_of_single_tokens_ends_with_a_threshold(make_sae, stream, x, run_config):
    sae = make_sae(BatchTopKConfig(k=3, per_token=0.5))
    for record in fit(sae, stream(x, 64), run_config):
        share = (record.n_tokens - 32) / run_config.n_tokens
        assert (sae.sparsity.threshold >= 0) == (share >= 0.5), record.step
    with torch.no_grad():
        assert 0 < len(sae.encode_sparse(x).value) <= 6 * len(x)
