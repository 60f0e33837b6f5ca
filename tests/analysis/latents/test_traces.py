import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from analysis.latents.traces import Firing, firing, latents, reconstructed, sums, trace
from analysis.statistics.intervals import Blocks
from sae.dictionary.config import ReluConfig, SaeConfig
from sae.dictionary.sae import Sae
from sae.errors import InputError


def _sae(d_in=3, d_sae=4, scale=2.0):
    sae = Sae(SaeConfig(d_in=d_in, d_sae=d_sae, sparsity=ReluConfig(l1=0.1)))
    with torch.no_grad():
        sae.W_dec.mul_(scale)
    return sae


def _firing(z):
    z = np.asarray(z, np.float32)
    return Firing(sparse.csr_array(z), np.eye(z.shape[1], 5, dtype=np.float32))


BASE = _firing([[1, 0], [2, 0], [0, 3], [0, 0]])
TUNED = _firing([[2, 1], [0, 0], [0, 6], [1, 0]])
TOKENS = pd.DataFrame(
    {
        "context": ["chat"] * 4,
        "role": ["user", "assistant", "assistant", "assistant"],
        "is_template": [False, False, False, True],
    }
)


def test_latents_are_in_activation_units():
    """Doubling the decoder and halving the encoder is the same dictionary."""
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    one, two = _sae(scale=1.0), _sae(scale=2.0)
    with torch.no_grad():
        two.W_enc.mul_(0.5)
    assert np.allclose(latents(one, x).toarray(), latents(two, x).toarray(), atol=1e-6)
    folded = one.rescaled(3.0)
    assert np.allclose(latents(one, x).toarray(), latents(folded, x).toarray(), atol=1e-5)


def test_firing_streams_and_sums_the_moments_by_block():
    sae = _sae()
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    blocks = Blocks(np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0]), 3)
    found = firing(sae, [x[:4], x[4:5], x[5:]], blocks)
    z = latents(sae, x).toarray()
    assert np.allclose(found.z.toarray(), z, atol=1e-6)
    assert np.allclose(np.linalg.norm(found.rows, axis=1), 1)
    with torch.no_grad():
        left = (x - sae(x).x_hat).numpy()
    for block in range(3):
        mine = blocks.of_token == block
        assert np.allclose(found.residual_moments[block], z[mine].T @ left[mine], atol=1e-5)


@pytest.mark.parametrize("n", [9, 11])
def test_the_wrong_number_of_vectors_is_an_error(n):
    with pytest.raises(InputError, match="one residual vector for every token"):
        firing(_sae(), [torch.zeros(n, 3)], Blocks(np.zeros(10, int), 1))


def test_firing_refuses_rows_of_another_dictionary():
    with pytest.raises(InputError, match="same dictionary"):
        Firing(sparse.csr_array((2, 3)), np.zeros((4, 5), np.float32))


def test_trace_is_worked_by_hand():
    table = trace(BASE, TUNED, TOKENS, "twin").set_index(["role", "latent"])
    assert list(table.columns) == [
        "tuned", "context", "n_tokens", "n_fires_base", "n_fires_tuned", "n_fires_both",
        "sum_z_base", "sum_z_tuned", "sum_z_both_base", "sum_z_both_tuned",
    ]  # fmt: skip
    assert table.loc[("user", 0)].tolist() == ["twin", "chat", 1, 1, 1, 1, 1, 2, 1, 2]
    assert table.loc[("user", 1)].tolist() == ["twin", "chat", 1, 0, 1, 0, 0, 1, 0, 0]
    assert table.loc[("assistant", 0)].tolist() == ["twin", "chat", 2, 1, 0, 0, 2, 0, 0, 0]
    assert table.loc[("assistant", 1)].tolist() == ["twin", "chat", 2, 1, 1, 1, 3, 6, 3, 6]
    assert table.loc[("template", 0)].tolist() == ["twin", "chat", 1, 0, 1, 0, 0, 1, 0, 0]


def test_blocks_and_groups_add_up_to_the_same_totals():
    found = sums(BASE, TUNED, Blocks(np.array([0, 1, 0, 1]), 2).indicator())
    table = trace(BASE, TUNED, TOKENS, "twin")
    for column in ("n_fires_both", "sum_z_both_tuned", "n_fires_base"):
        by_latent = table.groupby("latent")[column].sum().to_numpy()
        assert np.allclose(getattr(found, column).sum(axis=0), by_latent)
    assert found.n_tokens.tolist() == [2, 2]


EVERY = Blocks(np.zeros(4, int), 1).indicator()


def test_different_tokens_are_refused_and_added_latents_left_out():
    with pytest.raises(InputError, match="the same tokens"):
        sums(BASE, _firing([[1, 0]]), EVERY)
    wider = _firing(np.ones((4, 3)))
    assert sums(BASE, wider, EVERY).sum_z_tuned.shape == (1, 2)


def test_a_sparse_reconstruction_is_the_dictionary_s_own():
    sae = _sae().rescaled(3.0)
    x = torch.randn(7, sae.config.d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(reconstructed(sae.eval(), x), sae.decode(sae.encode(x)), atol=1e-5)
