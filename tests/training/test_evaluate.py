import math

import pytest
import torch

from sae.dictionary import BatchTopKConfig, ReluConfig, Sae, SaeConfig, initialise_
from sae.errors import InputError
from sae.stream.activations import HookPoint, harvest, logits, padded
from sae.stream.buffer import ActivationBuffer, ModelSource
from sae.stream.tokens import tokenize
from training.config import TrainConfig
from training.evaluate import FIRE_RATE_EDGES, evaluate
from training.loop import fit
from training.state import TrainState
from training.track import KEYS, JsonlTracker, read_rows

_HOOK = HookPoint(1, "resid_post")


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def counted(tiny_model, text):
    x = torch.cat([found[_HOOK] for _, found in harvest(tiny_model, text, [_HOOK])])
    return x[torch.from_numpy(~text.table["is_special"].to_numpy(dtype=bool))]


def _identity(n_copies=1):
    """Latents for both signs of every dimension, so that nothing is lost."""
    sae = Sae(SaeConfig(16, 32 * n_copies, ReluConfig(l1=0.0)))
    eye = torch.cat([torch.eye(16), -torch.eye(16)])
    idle = torch.zeros(32 * (n_copies - 1), 16)
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([eye, idle]))
        sae.W_enc.copy_(torch.cat([eye, idle]).T)
    return sae


def test_a_perfect_dictionary_costs_nothing(tiny_model, text, counted):
    found = evaluate(_identity(n_copies=2), tiny_model, text, _HOOK)
    assert found.fvu < 1e-10
    assert found.ce_patched == pytest.approx(found.ce_clean, abs=1e-4)
    assert found.l0 == pytest.approx(16)
    assert found.dead_fraction == 0.5
    assert found.n_tokens == len(counted)


def test_an_empty_dictionary_gives_the_mean_and_recovers_nothing(tiny_model, text, counted):
    sae = _identity()
    with torch.no_grad():
        sae.b_dec.copy_(counted.mean(0))
        sae.b_enc.fill_(-1e6)
    found = evaluate(sae, tiny_model, text, _HOOK)
    assert found.fvu == pytest.approx(1, abs=1e-5)
    assert found.ce_patched == pytest.approx(found.ce_ablated, abs=1e-5)
    assert math.isnan(found.ce_recovered) or found.ce_recovered == pytest.approx(0, abs=1e-3)
    assert (found.l0, found.dead_fraction, sum(found.fire_rate_counts)) == (0.0, 1.0, 0)


def test_only_words_that_predict_words_count(tiny_model, text):
    losses, at = [], 0
    special = text.table["is_special"].to_numpy(dtype=bool)
    for row in text.ids:
        ids, mask = padded([row])
        scores = logits(tiny_model, ids, mask)[0].log_softmax(-1)
        for place in range(len(row) - 1):
            if not special[at + place] and not special[at + place + 1]:
                losses.append(-scores[place, row[place + 1]].item())
        at += len(row)
    found = evaluate(_identity(), tiny_model, text, _HOOK)
    assert found.n_predicted == len(losses)
    assert found.ce_clean == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_batch_changes_nothing_and_the_mode_is_restored(tiny_model, text):
    sae = _identity().train()
    one, two = (evaluate(sae, tiny_model, text, _HOOK, n) for n in (1, 50))
    assert sae.training
    assert one.ce_patched == pytest.approx(two.ce_patched, rel=1e-5)
    assert one.fvu == pytest.approx(two.fvu, abs=1e-10)
    assert one.fire_rate_counts == two.fire_rate_counts


def test_every_latent_that_fired_is_in_the_histogram(tiny_model, text):
    found = evaluate(_identity(n_copies=3), tiny_model, text, _HOOK)
    assert len(found.fire_rate_counts) == len(FIRE_RATE_EDGES) - 1
    assert sum(found.fire_rate_counts) == round((1 - found.dead_fraction) * 96)


def test_the_row_holds_known_keys(tiny_model, text):
    row = evaluate(_identity(), tiny_model, text, _HOOK).row(n_tokens=77)
    assert row["tokens"] == 77 and set(row) <= set(KEYS)


def test_too_little_text_is_an_input_error(tiny_model, text):
    specials_only = text.select(torch.arange(len(text.ids)).numpy() < 1)
    specials_only.table["is_special"] = True
    with pytest.raises(InputError, match="an evaluation; found: 0 tokens"):
        evaluate(_identity(), tiny_model, specials_only, _HOOK)


def test_fit_save_resume_and_evaluate_on_a_real_buffer(tmp_path, tiny_model, text, counted):
    source = ModelSource(tiny_model, text, _HOOK, documents_per_chunk=4)
    config = TrainConfig(n_tokens=32 * 60, batch_tokens=32, lr=1e-2, dead_after_tokens=300)
    width = SaeConfig(16, 48, BatchTopKConfig(k=4))

    def begin(state=None):
        sae = Sae(width)
        initialise_(sae, counted, seed=0)
        cursor = None if state is None else state.cursor
        # Three chunks a fill, so that the run meets several refills.
        return sae, ActivationBuffer(source, 32, bytes_limit=18_000, seed=3, cursor=cursor)

    sae, buffer = begin()
    whole = [record.loss.total.item() for record in fit(sae, buffer, config)]
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    for cut in range(1, 40, 3):
        sae, buffer = begin()
        for record in fit(sae, buffer, config):
            if record.step == cut:
                record.state.save(tmp_path / "state")
                break
        state = TrainState.load(tmp_path / "state")
        resumed, buffer = begin(state)
        run = fit(resumed, buffer, config, state)
        losses = [next(run).loss.total.item() for _ in range(20)]
        assert losses == whole[cut : cut + 20], f"after a cut at step {cut}"
    for record in run:
        tracker.log(record.row())
    found = evaluate(resumed.folded(), tiny_model, text, _HOOK)
    tracker.log(found.row(record.n_tokens))
    assert read_rows(tmp_path / "metrics.jsonl")[-1]["eval/fvu"] == found.fvu < 0.5
    assert found.l0 == pytest.approx(4, rel=0.3)
