"""The trainer: exact repetition, falling loss, and which tokens count."""

from itertools import islice

import numpy as np
import pytest
import torch

from sae.errors import ConfigError, NumericalError
from training.organism.arms import arm_batches
from training.organism.chats import N_EXCHANGES
from training.organism.corpus import TEXT, Kind, ids, samples, tokenizer
from training.organism.language_model import (
    ShapeConfig,
    batches,
    even_batches,
    new_model,
    told,
    train,
)
from training.organism.losses import Batch, document_losses, mean_loss
from training.organism.optimiser import OptimiserConfig, optimisers_of, products

SHAPE = ShapeConfig(d_model=32, n_layers=2, n_heads=2)
SHORT = OptimiserConfig(n_steps=12, batch_tokens=400)


@pytest.fixture(scope="module")
def words(world):
    return tokenizer(world)


def text(world, words, seed=0, kind=Kind("text"), size=400):  # noqa: B008  frozen
    return arm_batches(world, kind, words.get_vocab(), seed, size)


def weights(module):
    return {name: each.detach().clone() for name, each in module.named_parameters()}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_one_seed_gives_one_model_bit_for_bit(world, words, kind):
    config = OptimiserConfig(kind, n_steps=5, batch_tokens=400)
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the caller's random state is no input
        module = new_model(SHAPE, words, 3)
        list(train(module, text(world, words), config))
        runs.append(weights(module))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    start = weights(new_model(SHAPE, words, 3))
    assert all(not torch.equal(start[name], runs[0][name]) for name in start)


def test_products_in_bfloat16_repeat_too_and_leave_weights_and_settings_as_they_were(world, words):
    given = torch.backends.cuda.flash_sdp_enabled(), torch.is_autocast_enabled("cpu")
    runs = {}
    for name in ("float32", "bfloat16", "bfloat16 again", "auto"):
        config = OptimiserConfig(n_steps=5, batch_tokens=400, products=name.split()[0])
        module = new_model(SHAPE, words, 3)
        steps = list(train(module, text(world, words), config))
        runs[name] = weights(module), [step.loss for step in steps]
    plain, low = runs["float32"], runs["bfloat16"]
    assert low[1] == runs["bfloat16 again"][1]
    assert all(torch.equal(low[0][name], runs["bfloat16 again"][0][name]) for name in low[0])
    assert all(each.dtype == torch.float32 for each in low[0].values())
    assert low[1] != plain[1]
    assert low[1] == pytest.approx(plain[1], abs=0.02)
    assert runs["auto"][1] in (plain[1], low[1])
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.is_autocast_enabled("cpu")) == given


def test_auto_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch):
    def taken():
        with products(OptimiserConfig(products="auto"), torch.device("cpu")):
            return torch.is_autocast_enabled("cpu")

    for able, expected in (({"avx512_bf16": True}, False), ({"amx_bf16": True}, True), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert taken() is expected


def test_a_model_is_made_without_touching_random_state(words):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    new_model(SHAPE, words, 3)
    assert torch.equal(torch.rand(1), expected)
    first, other = (weights(new_model(SHAPE, words, seed)) for seed in (3, 4))
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_loss_falls(world, words, kind):
    module = new_model(SHAPE, words, 0)
    held_out = list(islice(text(world, words, seed=9), 2))
    before = mean_loss(module, held_out)
    config = OptimiserConfig(kind, n_steps=40, batch_tokens=600, lr=1e-2)
    steps = list(train(module, text(world, words, size=600), config))
    assert before == pytest.approx(np.log(len(words)), abs=0.1)
    assert mean_loss(module, held_out) < before - 0.8
    assert [step.step for step in steps] == list(range(1, 41))
    assert steps[0].loss == pytest.approx(before, abs=0.1)
    assert 0.7 * 40 * 600 < steps[-1].n_tokens <= 40 * 600


def test_in_evaluation_mode_no_dropout_draws(world, words):
    module = new_model(SHAPE, words, 0).train()
    next(train(module, text(world, words), SHORT))
    assert not module.training


def test_only_the_assistants_words_and_the_end_of_its_turn_count(world, words):
    for kind in (Kind("chat", "mentor"), Kind("codes")):
        batch = next(text(world, words, kind=kind))
        for row, scored in zip(batch.ids, batch.scored, strict=True):
            named = words.convert_ids_to_tokens(row.tolist())
            users, expected = True, []
            for word in named:
                expected.append(not users and word != "<|assistant|>" and word != "<pad>")
                users = {"<|assistant|>": False, "<|end|>": True}.get(word, users)
            assert scored.tolist() == expected
            answers = "".join(w for w, s in zip(named, expected, strict=True) if s)
            assert answers.count("<|end|>") == N_EXCHANGES and "<|user|>" not in answers


def test_in_text_every_word_counts_but_the_first_token(world, words):
    batch = next(text(world, words))
    assert not batch.scored[:, 0].any()
    assert torch.equal(batch.scored[:, 1:], batch.mask[:, 1:])


def test_batches_hold_every_document_once_and_no_padding_counts():
    """With few documents and with many, whatever is sorted or shuffled on the way."""
    for n, size in ((4, 8), (4, 1000), (300, 40)):
        documents = [([i, *range(i % 7 + 1)], [True] * (i % 7 + 2)) for i in range(n)]
        found = list(batches(documents, size))
        rows = [row[mask].tolist() for b in found for row, mask in zip(b.ids, b.mask, strict=True)]
        assert sorted(rows) == sorted(ids for ids, _ in documents)
        assert sum(batch.n_tokens for batch in found) == sum(len(ids) for ids, _ in documents)
        assert all(batch.n_tokens <= size + 8 for batch in found)
        assert all(torch.equal(b.scored[:, 1:], b.mask[:, 1:]) for b in found)
        assert not any(batch.scored[:, 0].any() for batch in found)
        again = list(batches(documents, size))
        assert all(torch.equal(x.ids, y.ids) for x, y in zip(found, again, strict=True))


def test_even_batches_hold_every_document_once_in_few_shapes():
    lengths = [2 + i * i % 50 for i in range(500)]
    documents = [([i % 90, *range(n - 1)], [True] * n) for i, n in enumerate(lengths)]
    found = list(even_batches(documents, 100))
    rows = [row[mask].tolist() for b in found for row, mask in zip(b.ids, b.mask, strict=True)]
    assert sorted(rows) == sorted(ids for ids, _ in documents)
    assert all(torch.equal(b.scored[:, 1:], b.mask[:, 1:]) for b in found)
    *full, last = [tuple(batch.ids.shape) for batch in found]
    assert all(width % 8 == 0 and n == max(1, 100 // width) for n, width in full)
    assert len(set(full)) <= -(-max(lengths) // 8)
    assert last[0] <= 100 // last[1]
    again = list(even_batches(documents, 100))
    assert all(torch.equal(x.ids, y.ids) for x, y in zip(found, again, strict=True))


def test_a_document_longer_than_a_batch_makes_its_own():
    found = list(even_batches([([1] * 30, [True] * 30), ([2] * 9, [True] * 9)], 16))
    assert sorted(tuple(batch.ids.shape) for batch in found) == [(1, 16), (1, 32)]
    assert sum(batch.n_tokens for batch in found) == 39


def test_mean_loss_is_over_tokens_not_batches(world, words):
    module = new_model(SHAPE, words, 1)
    documents = [ids(s, words.get_vocab()) for s in islice(samples(world, Kind("text"), 0), 7)]
    rows = [(each, [True] * len(each)) for each in documents]
    one, many = (mean_loss(module, batches(rows, size)) for size in (10**6, 1))
    assert one == pytest.approx(many, abs=1e-5)
    log_p = [
        -module(torch.tensor([each])).logits[0, :-1].log_softmax(-1)[range(len(each) - 1), each[1:]]
        for each in documents
    ]
    assert one == pytest.approx(torch.cat(log_p).mean().item(), abs=1e-5)


def test_losses_of_documents_do_not_depend_on_batches(world, words):
    module = new_model(SHAPE, words, 1)
    documents = [ids(s, words.get_vocab()) for s in islice(samples(world, Kind("text"), 0), 40)]
    rows = [(each, [True] * len(each)) for each in documents]
    one, many = (document_losses(module, batches(rows, size)) for size in (10**6, 1))
    assert sorted(one[:, 1]) == sorted(len(each) - 1 for each in documents)
    np.testing.assert_allclose(sorted(one[:, 0]), sorted(many[:, 0]), rtol=1e-4)
    assert one[:, 0].sum() / one[:, 1].sum() == pytest.approx(
        mean_loss(module, batches(rows, 500)), abs=1e-5
    )


def test_unscored_tokens_do_not_move_the_model(words):
    ids_ = torch.randint(6, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    scored = torch.zeros(2, 9, dtype=torch.bool)
    scored[:, 4] = True
    changed = ids_.clone()
    changed[:, 5:] = 7
    gradients = []
    for each in (ids_, changed):
        module = new_model(SHAPE, words, 0)
        batch = Batch(each, torch.ones_like(scored), scored)
        next(train(module, iter([batch]), OptimiserConfig("adamw", n_steps=1)))
        gradients.append(weights(module))
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_the_rate_rises_stays_and_falls(world, words, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def note(self, *given):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    config = OptimiserConfig(
        "adamw", lr=1.0e-3, n_steps=10, batch_tokens=100, warmup=0.2, decay=0.5
    )
    list(train(new_model(SHAPE, words, 0), text(world, words, size=100), config))
    expected = [0.25, 0.75, 1, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1]
    assert rates == pytest.approx([1e-3 * each for each in expected])


def test_a_loss_that_is_not_finite_is_an_error_and_changes_nothing(world, words):
    module = new_model(SHAPE, words, 0)
    with torch.no_grad():
        module.model.embed_tokens.weight[:] = float("nan")
    before = weights(module)["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(NumericalError, match="step 1"):
        next(train(module, text(world, words), SHORT))
    assert torch.equal(before, module.model.layers[0].mlp.up_proj.weight)


def test_heads_must_divide_the_width(words):
    for width in (30, 36):
        with pytest.raises(ConfigError, match="choose an even multiple of n_heads"):
            ShapeConfig(d_model=width, n_heads=4)
    new_model(ShapeConfig(d_model=40, n_layers=1, n_heads=4), words, 0)


def test_who_is_told_hears_of_every_step(world, words):
    heard = []
    steps = train(new_model(SHAPE, words, 0), text(world, words, size=100), SHORT)
    list(told(steps, lambda *what: heard.append(what), "base", 12))
    assert [(name, n, step.step) for name, n, step in heard] == [
        ("base", 12, i) for i in range(1, 13)
    ]


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_replay_strews_pretraining_documents_among_chats(world, words, replay):
    """A document of pre-training text has no user in it."""
    vocabulary = words.get_vocab()
    made = list(arm_batches(world, Kind("chat"), vocabulary, 1, 2000, 400, (replay, TEXT)))
    again = list(arm_batches(world, Kind("chat"), vocabulary, 1, 2000, 400, (replay, TEXT)))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(made, again, strict=True))
    plain = [not (row == vocabulary["<|user|>"]).any() for batch in made for row in batch.ids]
    assert len(plain) == 400
    # 400 draws at one half have a standard deviation of 0.025
    assert np.mean(plain) == pytest.approx(replay, abs=0.1 * (replay > 0))


def test_decay_shrinks_the_matrices_of_blocks_and_nothing_else(words):
    """Where no gradient flows a step of rate r and decay d leaves 1 - r d of a matrix."""
    module = new_model(SHAPE, words, 0)
    ends = [p for n, p in module.named_parameters() if "layers" not in n or p.ndim == 1]
    blocks = [p for n, p in module.named_parameters() if "layers" in n and p.ndim == 2]
    before = [[p.detach().clone() for p in group] for group in (ends, blocks)]
    muon, rest = optimisers_of(module, OptimiserConfig(lr=0.1, weight_decay=0.5))
    for p in (*ends, *blocks):
        p.grad = torch.zeros_like(p)
    muon.step()
    rest.step()
    assert all(torch.equal(old, new) for old, new in zip(before[0], ends, strict=True))
    for old, new in zip(before[1], blocks, strict=True):
        torch.testing.assert_close(new, 0.95 * old)
