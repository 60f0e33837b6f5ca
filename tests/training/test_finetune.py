"""Fine-tuning on KL: its numbers by hand, what it moves, and what it leaves alone."""

import copy
import math

import numpy as np
import pytest
import torch

from sae.dictionary import (
    BatchTopKConfig,
    CrosscoderConfig,
    GatedConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    TopKConfig,
    initialise_,
)
from sae.dictionary.losses import Loss
from sae.dictionary.metrics import kl_compute, kl_update
from sae.errors import ConfigError, InputError, NumericalError
from sae.stream.activations import HookPoint, harvest, logits_with, outliers
from sae.stream.tokens import tokenize
from training import finetune as module
from training.config import TrainConfig
from training.continuation import continued
from training.evaluate import evaluate
from training.finetune import finetune, finetune_config, kl_balanced, kl_divergence
from training.loop import fit
from training.patching import document_batch, placed
from training.track import KEYS

_HOOK = HookPoint(1, "resid_post")
_RUN = TrainConfig(n_tokens=6000, batch_tokens=128, lr=7.5e-4, decay=1.0)
_KINDS = {
    "relu": ReluConfig(l1=0.05),
    "topk": TopKConfig(k=3),
    "batch_topk": BatchTopKConfig(k=3),
    "jump_relu_l0": JumpReluL0Config(l0=3.0),
    "jump_relu_tanh": JumpReluTanhConfig(tanh=0.1),
    "gated": GatedConfig(l1=0.05),
}


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def parts(text):
    held_out = np.arange(len(text.ids)) % 3 == 0
    return text.select(~held_out), text.select(held_out)


@pytest.fixture(scope="module")
def x(tiny_model, parts):
    found = torch.cat([each[_HOOK] for _, each in harvest(tiny_model, parts[0], [_HOOK])])
    return found[torch.from_numpy(~parts[0].table["is_special"].to_numpy(dtype=bool))]


@pytest.fixture(scope="module")
def finished(x):
    """A fitted and folded dictionary of a kind, made once, and a copy fit to be tuned."""
    made = {}

    def make(kind="batch_topk", prefixes=()):
        if (kind, prefixes) not in made:
            sae = Sae(SaeConfig(16, 48, _KINDS[kind], prefixes))
            initialise_(sae, x, seed=0)
            run = TrainConfig(n_tokens=40_000, batch_tokens=len(x), lr=3e-3)
            assert list(fit(sae, [x] * run.n_steps, run))
            made[kind, prefixes] = sae.folded()
        return made[kind, prefixes], continued(made[kind, prefixes], x)

    return make


def _identity(scale=1.0):
    sae = Sae(SaeConfig(16, 32, ReluConfig(l1=0.0)))
    eye = torch.cat([torch.eye(16), -torch.eye(16)])
    with torch.no_grad():
        sae.W_dec.copy_(eye)
        sae.W_enc.copy_(scale * eye.T)
    return sae


class TestByHand:
    def test_kl_and_its_gradient(self):
        # KL((3/4, 1/4) || (1/2, 1/2)); by a logit its gradient is patched less clean probability.
        clean = torch.tensor([[math.log(3.0), 0.0]])
        patched = torch.zeros(1, 2, requires_grad=True)
        kl = kl_divergence(clean, patched)
        kl.backward()
        assert kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
        assert patched.grad is not None
        assert patched.grad[0].tolist() == pytest.approx([-0.25, 0.25])

    def test_it_is_the_number_the_evaluation_has(self):
        draw = torch.Generator().manual_seed(0)
        clean, patched = torch.randn(2, 7, 11, generator=draw)
        found = kl_compute(kl_update(clean, patched))
        assert kl_divergence(clean, patched).item() == pytest.approx(found, rel=1e-6)

    def test_both_count_half_and_no_gradient_reaches_the_factor(self):
        w = torch.tensor(2.0, requires_grad=True)
        error, kl = w.square(), w / 4  # 4 and 0.5, hence a factor of 8
        loss = kl_balanced(
            Loss({"reconstruction": error, "l1": w}, {"reconstruction": 1.0, "l1": 0.1}), kl
        )
        assert dict(loss.weights) == {"reconstruction": 0.5, "l1": 0.1, "kl": 4.0}
        loss.total.backward()
        assert w.grad is not None
        assert w.grad.item() == pytest.approx(0.5 * 4 + 0.1 + 4 / 4)

    def test_the_gradient_through_the_model_is_that_of_finite_differences(self, tiny_model, text):
        module64 = copy.deepcopy(tiny_model.module).double()
        model = type(tiny_model)(module64, tiny_model.tokenizer, "tiny")
        batch = document_batch(text, [0, 9])
        at = torch.zeros(16, dtype=torch.float64, requires_grad=True)

        def kl(shift):
            def patch(x):
                return placed(x, batch.counted, x[batch.counted] + shift)

            passes = [
                logits_with(model, batch.ids, batch.mask, _HOOK, each, True)
                for each in (lambda x: x, patch)
            ]
            clean, patched = (batch.predictions(each).log_softmax(-1) for each in passes)
            return (clean.exp() * (clean - patched)).sum(-1).mean()

        start = torch.full((16,), 0.05, dtype=torch.float64)
        kl(start + at).backward()
        assert at.grad is not None
        for i in (0, 7, 15):
            step = torch.zeros(16, dtype=torch.float64)
            step[i] = 1e-3
            slope = (kl(start + step) - kl(start - step)).item() / 2e-3
            assert at.grad[i].item() == pytest.approx(
                slope, rel=1e-2, abs=1e-5
            )  # the norm is in float32

    def test_the_run_that_ends_a_fit(self):
        run = finetune_config(TrainConfig(n_tokens=2**20, lr=4e-3, decay=0.2, seed=7), d_sae=8)
        assert (run.n_tokens, run.lr, run.decay, run.seed) == (52429, pytest.approx(1e-3), 1.0, 7)
        assert finetune_config(TrainConfig(n_tokens=9), d_sae=2**14).lr == pytest.approx(5e-5)
        assert finetune_config(TrainConfig(n_tokens=9, decay=0.0, lr=1.0), d_sae=8).lr == 1.0


class TestWhatItDoes:
    @pytest.mark.parametrize("kind", _KINDS)
    def test_kl_falls_on_held_out_text(self, finished, tiny_model, parts, kind):
        before, sae = finished(kind)
        list(finetune(sae, tiny_model, parts[0], _HOOK, _RUN))
        was, now = (evaluate(each, tiny_model, parts[1], _HOOK) for each in (before, sae.folded()))
        assert now.kl < was.kl
        assert now.l0 == pytest.approx(was.l0, rel=0.25)

    def test_nested_dictionaries_too(self, finished, tiny_model, parts):
        before, sae = finished(prefixes=(8, 24))
        records = list(finetune(sae, tiny_model, parts[0], _HOOK, _RUN))
        assert {*records[0].loss.terms} == {"reconstruction", "kl"}
        assert {f"loss/{each}" for each in records[0].loss.terms} <= set(KEYS)
        was = evaluate(before, tiny_model, parts[1], _HOOK).kl
        assert evaluate(sae.folded(), tiny_model, parts[1], _HOOK).kl < was

    def test_reconstructing_exactly_gives_no_kl(self, tiny_model, text):
        run = TrainConfig(n_tokens=1, batch_tokens=64, lr=1e-9)
        (record,) = finetune(_identity(), tiny_model, text, _HOOK, run)
        assert abs(record.loss.terms["kl"].item()) < 1e-6
        assert record.loss.terms["reconstruction"].item() < 1e-10
        assert evaluate(_identity(), tiny_model, text, _HOOK).kl == pytest.approx(0, abs=1e-6)

    def test_the_first_loss_is_what_the_evaluation_finds(self, finished, tiny_model, parts):
        before, sae = finished("topk")
        n_tokens = int((~parts[0].table["is_special"]).sum())
        run = TrainConfig(n_tokens=1, batch_tokens=n_tokens)
        (record,) = finetune(sae, tiny_model, parts[0], _HOOK, run)
        found = evaluate(before, tiny_model, parts[0], _HOOK)
        assert record.n_tokens == n_tokens
        assert record.loss.terms["kl"].item() == pytest.approx(found.kl, rel=1e-4)
        assert record.metrics["fvu"] == pytest.approx(found.fvu, rel=1e-4)
        assert record.metrics["l0"] == pytest.approx(found.l0)
        assert record.loss.weights["kl"] * record.loss.terms["kl"].item() == pytest.approx(
            record.loss.terms["reconstruction"].item() / 2
        )

    def test_the_same_seed_gives_the_same_bits_and_another_does_not(
        self, finished, tiny_model, parts
    ):
        def rows(seed):
            run = TrainConfig(n_tokens=600, batch_tokens=128, lr=2e-3, seed=seed)
            sae = finished()[1]
            found = [r.loss.total.item() for r in finetune(sae, tiny_model, parts[0], _HOOK, run)]
            return found, sae.W_dec.detach()

        (one, mine), (two, theirs), (other, _) = rows(0), rows(0), rows(1)
        assert one == two and torch.equal(mine, theirs)
        assert one != other


class TestWhatItLeavesAlone:
    def test_only_the_dictionary_moves(self, finished, tiny_model, parts):
        before, sae = finished()
        model = copy.deepcopy(tiny_model.module).state_dict()
        start = copy.deepcopy(sae).state_dict()
        list(finetune(sae, tiny_model, parts[0], _HOOK, _RUN))
        now = tiny_model.module.state_dict()
        assert all(torch.equal(now[name], each) for name, each in model.items())
        assert all(
            each.requires_grad and each.grad is None for each in tiny_model.module.parameters()
        )
        moved = {name for name, each in sae.state_dict().items() if not each.equal(start[name])}
        assert moved == {"W_enc", "W_dec", "b_enc", "b_dec"}
        assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(48), atol=1e-6)
        assert not sae.training and before.config == sae.config

    def test_a_frozen_decoder_keeps_every_bit(self, finished, tiny_model, parts):
        sae = finished()[1]
        sae.W_dec.requires_grad_(False)
        start = sae.W_dec.clone()
        list(finetune(sae, tiny_model, parts[0], _HOOK, _RUN))
        assert torch.equal(sae.W_dec, start)

    def test_special_tokens_outliers_and_padding_keep_their_vectors(
        self, tiny_model, text, monkeypatch
    ):
        base = document_batch(text, range(len(text.ids)))
        seen = []

        def spy(x, where, rows):
            # One word of each of two documents becomes an outlier.
            seen.append((x, where, placed(x, where, rows)))
            return seen[-1][2]

        loud = copy.deepcopy(tiny_model.module)
        word = int(base.ids[base.counted][0])
        with torch.no_grad():
            loud.get_input_embeddings().weight[word] *= 1e4
        model = type(tiny_model)(loud, tiny_model.tokenizer, "loud")
        monkeypatch.setattr(module, "placed", spy)
        run = TrainConfig(n_tokens=100, batch_tokens=100, lr=1e-3)
        for each in finetune(_identity(scale=0.5), model, text, _HOOK, run):
            assert each.n_tokens == sum(int(where.sum()) for _, where, _ in seen)
        x, where, y = seen[0]
        assert torch.equal(x[~where], y[~where])
        assert not torch.isclose(x[where], y[where]).all(-1).any()
        batch = next(module._batches(text, 100, 0))  # noqa: SLF001
        is_outlier = torch.zeros_like(batch.mask)
        is_outlier[batch.mask] = outliers(x[batch.mask])
        assert (is_outlier & batch.counted).any()
        assert torch.equal(where, batch.counted & ~is_outlier)
        assert torch.equal(is_outlier & batch.counted, (batch.ids == word) & batch.counted)


class TestRefusals:
    def test_a_crosscoder(self, tiny_model, text):
        shape = SaeConfig(32, 48, TopKConfig(k=2), crosscoder=CrosscoderConfig(n_models=2))
        match = "asked: to fine-tune a dictionary on KL; found: a crosscoder of 2 models; do: give"
        with pytest.raises(ConfigError, match=match):
            finetune(Sae(shape), tiny_model, text, _HOOK, _RUN)

    def test_another_width(self, tiny_model, text):
        sae = Sae(SaeConfig(8, 16, TopKConfig(k=2)))
        with pytest.raises(ConfigError, match="a dictionary of width 8; found: .* of width 16; do"):
            finetune(sae, tiny_model, text, _HOOK, _RUN)

    def test_text_without_words(self, tiny_model, text):
        only = text.select(np.arange(len(text.ids)) < 1)
        only.table["is_special"] = True
        with pytest.raises(InputError, match="found: special tokens alone; do: give text"):
            finetune(_identity(), tiny_model, only, _HOOK, _RUN)

    def test_a_loss_that_is_not_finite_changes_nothing(self, tiny_model, text):
        sae = _identity()
        with torch.no_grad():
            sae.b_dec[0] = math.nan
        start = sae.W_enc.clone()
        with pytest.raises(NumericalError, match="a finite loss; found: .*at step 1; do: lower lr"):
            next(finetune(sae, tiny_model, text, _HOOK, _RUN))
        assert torch.equal(sae.W_enc, start)
