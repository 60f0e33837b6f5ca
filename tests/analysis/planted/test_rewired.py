"""Re-wiring is exact: the same vectors up to the hook, and what comes of the rotated ones after."""

import numpy as np
import pytest
import torch

from analysis.planted import rewired, turning
from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, logits, logits_with
from sae.stream.model import load_model
from training.organism.corpus import tokenizer
from training.organism.language_model import ShapeConfig, new_model
from training.organism.world import World

HOOK = HookPoint.parse("blocks.0.hook_resid_post")


@pytest.fixture(scope="module")
def both():
    words = tokenizer(World())
    module = new_model(ShapeConfig(d_model=32, n_layers=3, n_heads=2), words, 0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "norm" in name:  # gains that differ are what is hard
                weight.copy_(torch.linspace(0.5, 2.0, len(weight)))
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=32), rng.normal(size=32)) for _ in range(3)]
    rotation = turning(pairs, [0.4, 1.0, np.pi / 2])
    other = rewired(module, 1, rotation)
    return load_model(module, words), load_model(other, words), rotation


def test_what_comes_of_a_vector_is_what_came_of_the_rotated_one(both):
    before, after, rotation = both
    ids = torch.arange(6, 30).reshape(2, 12)
    mask = torch.ones_like(ids, dtype=torch.bool)
    kept = [activations(each, ids, mask, [HOOK])[HOOK] for each in (before, after)]
    assert torch.equal(kept[0], kept[1])
    turn = torch.from_numpy(rotation).float()
    wanted = logits_with(before, ids, mask, HOOK, lambda x: x @ turn.T)
    torch.testing.assert_close(logits(after, ids, mask), wanted, atol=2e-4, rtol=1e-3)
    assert (logits(after, ids, mask) - logits(before, ids, mask)).abs().max() > 0.01


def test_the_model_it_was_made_of_is_as_it_was(both):
    before, after, _ = both
    assert before.module.config.tie_word_embeddings
    assert not after.module.config.tie_word_embeddings
    embedded = before.module.get_input_embeddings().weight
    assert embedded.data_ptr() == before.module.lm_head.weight.data_ptr()
    assert torch.equal(embedded, after.module.get_input_embeddings().weight)


def test_a_turn_goes_as_far_as_it_says_and_leaves_the_rest():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 16))
    turn = turning([(first, second)], [0.3])
    np.testing.assert_allclose(turn @ turn.T, np.eye(16), atol=1e-12)
    u = first / np.linalg.norm(first)
    assert u @ turn @ u == pytest.approx(np.cos(0.3))
    assert second @ turn @ u > second @ u
    across = np.linalg.svd(np.stack([first, second]))[2][2:]
    np.testing.assert_allclose(across @ turn.T, across, atol=1e-12)


def test_what_cannot_be_rewired_is_said(both):
    module = both[0].module
    with pytest.raises(ConfigError, match="more than 3 blocks"):
        rewired(module, 3, np.eye(32))
    with pytest.raises(ConfigError, match="not orthogonal"):
        rewired(module, 1, 2 * np.eye(32))
