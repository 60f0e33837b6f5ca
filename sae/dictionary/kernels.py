"""What costs only the latents that fire: decoding, and the gradients of both matrices.

Nothing here holds a dense [n, d_sae] matrix. Everything is one primitive, sums of weighted rows
(`embedding_bag`): a token's reconstruction is a sum of decoder rows, and a decoder row's gradient a
sum of tokens' gradients.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae.dictionary.latents import Latents, starts_of

__all__ = ["apart", "decode", "dots", "encode", "nested"]


def _sums(
    weight: Float[Tensor, " n_kept"],
    row: Int64[Tensor, " n_kept"],
    rows: Float[Tensor, "n_rows d"],
    starts: Int64[Tensor, " n_starts"],
) -> Float[Tensor, "n_groups d"]:
    """For each group of entries the sum of weight times row."""
    return torch.nn.functional.embedding_bag(
        row, rows, starts[:-1], mode="sum", per_sample_weights=weight
    )


def dots(
    vectors: Float[Tensor, "n d"],
    rows: Float[Tensor, "n_rows d"],
    row: Int64[Tensor, " m"],
    starts: Int64[Tensor, " n_starts"],
    vector: Int64[Tensor, " m"],
) -> Float[Tensor, " m"]:
    """For each entry the product of a vector and a row; no gradient passes.

    Args:
        vectors: What lies on one side.
        rows: What lies on the other.
        row: Row of each entry.
        starts: Where the entries of each vector begin; one more says where the last one's end.
        vector: Vector of each entry, never falling.
    """
    # What autograd calls for embedding_bag itself.
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001
        vectors, rows, row, starts[:-1], vector, 0, -1
    )


class _Encode(torch.autograd.Function):
    """Pre-activations of the entries alone, already computed; their gradient for all parameters."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Shaped[Tensor, "..."]:
        latents, x, W_enc, _, _ = given  # noqa: N806
        ctx.latents, ctx.x = latents, x
        ctx.save_for_backward(W_enc)
        return latents.value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Shaped[Tensor, "..."] | None, ...]:
        (grad,), (W_enc,) = grads, ctx.saved_tensors  # noqa: N806
        latents, (order, starts) = ctx.latents, ctx.latents.by_latent
        rows = _sums(grad[order], latents.token_by_latent, ctx.x, starts)
        b_enc = torch.bincount(latents.index, weights=grad, minlength=latents.d_sae).to(grad)
        return None, None, rows.T, b_enc, -(W_enc @ b_enc)


class _Decode(torch.autograd.Function):
    """Sums of decoder rows over bags of entries."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Shaped[Tensor, "..."]:
        value, W_dec, latents, bag, order, bags = given  # noqa: N806
        ctx.latents, ctx.bag = latents, bag
        ctx.save_for_backward(value, W_dec)
        index = latents.index if order is None else latents.index[order]
        return _sums(value if order is None else value[order], index, W_dec, bags)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Shaped[Tensor, "..."] | None, ...]:
        (grad,), (value, W_dec) = grads, ctx.saved_tensors  # noqa: N806
        grad, latents = grad.contiguous(), ctx.latents
        order, starts = latents.by_latent
        bag = latents.token_by_latent if ctx.bag is latents.token else ctx.bag[order]
        # Latent by latent, so that a decoder row is fetched once.
        found = dots(W_dec, grad, bag, starts, latents.index[order])
        found = torch.empty_like(found).index_copy_(0, order, found)
        return found, _sums(value[order], bag, grad, starts), None, None, None, None


class _Apart(torch.autograd.Function):
    """A matrix, and rows of it apart, whose gradient is added to the matrix's where that lies.

    Autograd alone would make a second matrix of zeros for it, and a third for the sum.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Shaped[Tensor, "..."], ...]:
        matrix, few = given
        ctx.few = few
        return matrix.view_as(matrix), matrix[few]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Shaped[Tensor, "..."] | None, ...]:
        whole, rows = grads
        return whole.index_add_(0, ctx.few, rows), None


def apart(
    matrix: Float[Tensor, "d_sae d_in"], few: Int64[Tensor, " n_few"]
) -> tuple[Float[Tensor, "d_sae d_in"], Float[Tensor, "n_few d_in"]]:
    """A matrix and some of its rows, differentiable in both.

    Args:
        matrix: What only one function here takes, whose gradient is its own to give away.
        few: Rows, each once.
    """
    return _Apart.apply(matrix, few)  # pyright: ignore


def encode(
    latents: Latents,
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],  # noqa: N803
    b_enc: Float[Tensor, " d_sae"],
    b_dec: Float[Tensor, " d_in"],
) -> Latents:
    """Latents whose values are functions of the encoder: `(x + b_dec - b_dec) W_enc + b_enc`.

    Args:
        latents: The entries kept, with their values.
        x: What the encoder saw, `b_dec` taken off already; no gradient reaches it.
        W_enc: Encoder.
        b_enc: Its bias.
        b_dec: What was taken off; its gradient counts that.

    Returns:
        The same latents, differentiable.
    """
    return latents.valued(_Encode.apply(latents, x, W_enc, b_enc, b_dec))  # pyright: ignore


def decode(
    latents: Latents,
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803
    edges: Sequence[int] = (),
) -> Float[Tensor, "n_parts n d_in"]:
    """What each part of the latents adds to a reconstruction; differentiable.

    Args:
        latents: Entries.
        W_dec: Directions.
        edges: Where parts end, rising, d_sae left out.

    Returns:
        Sums of value times decoder row, one for every part and token.
    """
    n, n_parts = len(latents), len(edges) + 1
    bag, order, bags = latents.token, None, latents.starts
    if edges:
        inner = torch.tensor(list(edges), device=latents.index.device)
        bag = torch.bucketize(latents.index, inner, right=True) * n + bag
        order = bag.argsort(stable=True)
        bags = starts_of(bag, n * n_parts)
    out = _Decode.apply(latents.value, W_dec, latents, bag, order, bags)
    return out.view(n_parts, n, -1)  # pyright: ignore


def nested(
    z: Float[Tensor, "n d_sae"] | Latents,
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803
    b_dec: Float[Tensor, " d_in"],
    edges: Sequence[int] = (),
) -> tuple[Float[Tensor, "n d_in"], ...]:
    """Reconstructions from each nested prefix of the latents; differentiable.

    Args:
        z: Latents, zeros and all or without them.
        W_dec: Directions.
        b_dec: Part of every reconstruction.
        edges: Sizes of the prefixes, rising, d_sae left out.

    Returns:
        One reconstruction for each prefix, then that of all latents, in the unit of `z`.
    """
    running, found = b_dec, []
    if isinstance(z, Latents):
        for part in decode(z, W_dec, edges):
            running = running + part
            found.append(running)
        return tuple(found)
    for start, stop in pairwise((0, *edges, len(W_dec))):
        running = torch.addmm(running, z[:, start:stop], W_dec[start:stop])
        found.append(running)
    return tuple(found)
