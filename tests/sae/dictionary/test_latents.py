"""Latents without their zeros: what is dense comes back, and orders are those of a sort."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sae.dictionary.latents import Latents, starts_of

DENSE = arrays.arrays(
    "float32",
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 0.0, 1.0, 2.5]),
).map(torch.from_numpy)


@given(DENSE)
def test_what_is_dense_comes_back(z):
    latents = Latents.of(z)
    assert len(latents) == len(z)
    assert torch.equal(latents.dense(), z)
    assert torch.equal(latents.n_fires(), (z > 0).sum(0))


@given(DENSE)
def test_entries_latent_by_latent_are_those_of_the_transpose(z):
    latents = Latents.of(z)
    order, starts = latents.by_latent
    index, token = (z.T > 0).nonzero(as_tuple=True)
    assert torch.equal(latents.index[order], index)
    assert torch.equal(latents.token_by_latent, token)
    assert torch.equal(starts, starts_of(index, z.shape[1]))


def test_other_activations_share_the_orders_of_the_same_places():
    latents = Latents.of(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))
    twin = latents.valued(2 * latents.value)
    assert twin.by_latent is latents.by_latent
    assert twin.token is latents.token
    assert torch.equal(twin.dense(), 2 * latents.dense())


def test_of_equal_entries_the_first_are_kept():
    latents = Latents.of(torch.tensor([[1.0, 2.0, 1.0], [1.0, 0.0, 3.0]]))
    assert latents.largest(3).dense().tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]
    assert latents.largest(9) is latents
