"""A run that was cut and resumed must equal the unbroken one bit for bit."""

import copy
from dataclasses import replace

import pytest
import torch

from sae.dictionary import (
    BatchTopKConfig,
    CrosscoderConfig,
    GatedConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    Sae,
    SaeConfig,
    SharedConfig,
    TopKConfig,
    initialise_,
)
from sae.errors import ConfigError
from training.loop import fit
from training.state import TrainState


def _unbroken(make_sae, stream, x, config):
    return [record.loss.total.item() for record in fit(make_sae(), stream(x, 64), config)]


# The stream refills after every fourth batch: 4, 8 and 40 lie on that edge.
@pytest.mark.parametrize("cut", [1, 3, 4, 5, 8, 17, 39, 40])
def test_the_next_twenty_losses_are_the_same(tmp_path, make_sae, stream, x, run_config, cut):
    whole = _unbroken(make_sae, stream, x, run_config)
    for record in fit(make_sae(), stream(x, 64), run_config):
        if record.step == cut:
            record.state.save(tmp_path)
            break
    state = TrainState.load(tmp_path)
    sae = make_sae()
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
    resumed = fit(sae, stream(x, 64, state.cursor), run_config, state)
    after = [record.loss.total.item() for record, _ in zip(resumed, range(20), strict=False)]
    assert after == whole[cut : cut + 20]
    assert len(after) == 20


@pytest.mark.parametrize(
    "sparsity",
    [
        None,
        BatchTopKConfig(k=3, per_token=0.5),
        BatchTopKConfig(k=3, per_token=0.9),
        JumpReluL0Config(l0=1.0),
        JumpReluTanhConfig(tanh=0.3),
        GatedConfig(l1=0.1),
    ],
    ids=["batch_topk", "from_half", "from_late", "jump_relu_l0", "jump_relu_tanh", "gated"],
)
def test_the_end_is_the_same_to_the_last_bit(tmp_path, make_sae, stream, x, run_config, sparsity):
    *_, last = fit(make_sae(sparsity), stream(x, 64), run_config)
    for record in fit(make_sae(sparsity), stream(x, 64), run_config):
        if record.step in (7, 30):
            record.state.save(tmp_path)
        if record.step == 33:
            break
    state, sae = TrainState.load(tmp_path), make_sae(sparsity)
    *_, end = fit(sae, stream(x, 64, state.cursor), run_config, state)
    for mine, theirs in (
        (end.state.weights, last.state.weights),
        (end.state.moments, last.state.moments),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert torch.equal(end.state.n_tokens_since_fired, last.state.n_tokens_since_fired)
    assert end.state.cursor == last.state.cursor


def test_one_over_several_models_goes_on_to_the_last_bit(tmp_path, stream, x, run_config):
    def made():
        over = CrosscoderConfig(3, SharedConfig(4), n_own=(2, 2, 2))
        sae = Sae(SaeConfig(12, 48, BatchTopKConfig(k=3), (16,), over))
        initialise_(sae, x, seed=1)
        return sae

    *_, last = fit(made(), stream(x, 64), run_config)
    for record in fit(made(), stream(x, 64), run_config):
        if record.step == 33:
            record.state.save(tmp_path)
            break
    state, sae = TrainState.load(tmp_path), made()
    sae.layout.balance.fill_(7.0)
    *_, end = fit(sae, stream(x, 64, state.cursor), run_config, state)
    for name, value in last.state.weights.items():
        assert torch.equal(end.state.weights[name], value), name


def test_a_copy_is_left_alone_by_later_steps(make_sae, stream, x, run_config):
    run = fit(make_sae(), stream(x, 64), run_config)
    live = next(run).state
    copied = copy.deepcopy(live)
    next(run)
    assert not torch.equal(live.weights["W_enc"], copied.weights["W_enc"])
    again = fit(make_sae(), stream(x, 64, copied.cursor), run_config, copied)
    assert next(again).step == 2


def test_a_finished_run_goes_on_with_nothing(make_sae, stream, x, run_config):
    *_, last = fit(make_sae(), stream(x, 64), run_config)
    assert list(fit(make_sae(), stream(x, 64, last.state.cursor), run_config, last.state)) == []


def test_another_run_is_refused_with_the_differing_options(make_sae, stream, x, run_config):
    state = next(fit(make_sae(), stream(x, 64), run_config)).state
    with pytest.raises(ConfigError, match="found: lr was 0.003, is 0.1; do: resume with"):
        fit(make_sae(), stream(x, 64, state.cursor), replace(run_config, lr=0.1), state)


def test_another_dictionary_is_refused(make_sae, stream, x, run_config):
    state = next(fit(make_sae(), stream(x, 64), run_config)).state
    for other in (make_sae(d_sae=40), make_sae(TopKConfig(k=3))):
        with pytest.raises(ConfigError, match="asked: a dictionary with .*W_enc"):
            fit(other, stream(x, 64, state.cursor), run_config, state)


def test_batches_at_another_place_are_refused(make_sae, stream, x, run_config):
    state = next(fit(make_sae(), stream(x, 64), run_config)).state
    with pytest.raises(ConfigError, match="make the buffer with cursor=state.cursor"):
        fit(make_sae(), stream(x, 64), run_config, state)
