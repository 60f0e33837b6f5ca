"""A finished dictionary + other activations -> the dictionary continued, with room for more."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae.dictionary.directions import unit_rows
from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["continued", "pursued"]

PART = 1024  # tokens at a time, for the dense pass
DRAWN, MOVES, ALIKE = 64, 2, 0.5  # candidates a direction, and how they are moved
ROUNDS, SAME = 4, 0.7  # rounds a direction at most; cosine of directions of one feature


def continued(sae: Sae, sample: Float[Tensor, "n d_in"], n_added: int = 0, seed: int = 0) -> Sae:
    """A dictionary ready for `training.loop.fit` on the activations `sample` was taken from.

    Latent i of the result starts as latent i of `sae`; the added ones follow, in directions of what
    `sae` misses of the sample, drawn by `pursued`. The input scale is fitted to the sample, since a
    finished dictionary is folded and would be trained in the model's own units; this changes no
    reconstruction. Of a crosscoder the models' scales among each other stay, since what its rows
    say depends on them.

    Continue the same dictionary twice, on the tuned model and on a null, with equal `n_added`,
    `seed` and training configuration: then the two differ by their activations alone, and so does
    where their added latents start. Adam
    starts from zero, so the rate's warm-up is needed here too.

    Args:
        sae: A finished dictionary; it is left alone.
        sample: Residual vectors of real tokens of the other model; unit: activation.
        n_added: Latents to add, at least 0.
        seed: Of the draw of added directions.

    Returns:
        A dictionary of `sae.config.d_sae + n_added` latents. Fold it when it is fitted.

    Raises:
        ConfigError: `n_added` is negative.
        InputError: The sample is empty, all zeros, or holds a value that is not finite.

    Source:
        Bricken et al. 2024, "Stage-wise model diffing". Differs from it: latents are added, so
        that what is new need not displace what was there, and they start at the errors, since in
        short runs random directions reach rare features too late.

    Example:
        >>> from sae.dictionary import SaeConfig, TopKConfig
        >>> old = Sae(SaeConfig(d_in=2, d_sae=4, sparsity=TopKConfig(k=1)))
        >>> new = continued(old, torch.ones(8, 2), n_added=3, seed=1)
        >>> new.config.d_sae, torch.equal(new.W_dec[:4], old.W_dec)
        (7, True)
    """
    mean_square = sae.layout.balanced(sample.double()).square().sum(-1).mean().item()
    if not 0 < mean_square < float("inf"):
        found = f"{len(sample)} vectors whose mean squared norm is {mean_square:g}"
        raise InputError("a sample to continue on", found, "give finite vectors, not all zero")
    scaled = sae.rescaled((sae.config.d_in / mean_square) ** 0.5)
    generator = torch.Generator().manual_seed(seed)
    wider = scaled.added(n_added, generator)
    if n_added:
        rows = pursued(_missed(scaled, sample), n_added, generator, scaled.W_dec)
        rows = wider.layout.placed(rows)
        with torch.no_grad():
            wider.W_dec[-n_added:] = rows
            wider.W_enc.T[-n_added:] = wider.layout.readers(rows)
    return wider


@torch.no_grad()
def _missed(sae: Sae, sample: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
    """What a dictionary misses of vectors, in training units, the mean left out."""
    was_training = sae.training
    sae.eval()
    error = sae.scale * (sample - torch.cat([sae(part).x_hat for part in sample.split(PART)]))
    sae.train(was_training)
    return error - error.mean(0)


@torch.no_grad()
def pursued(
    error: Float[Tensor, "n d_in"],
    n: int,
    generator: torch.Generator,
    known: Float[Tensor, "n_known d_in"] | None = None,
) -> Float[Tensor, "n_rows d_in"]:
    """Directions of what is missed, each the best of 64 where most is left after those before.

    Tokens are drawn with a chance in proportion to their squared error, among those above the mean.
    Each gives a direction, which is moved twice to the weighted mean of the tokens that point along
    it (a cosine of at least 0.5), as in spherical k-means (Dhillon and Modha 2001); of these the
    one that accounts for most is kept and taken off all tokens, as in greedy k-means++ (Arthur and
    Vassilvitskii 2007). One token's error is a mixture; what many share is a feature. What is left
    of features that the dictionary knows, which reconstructs them too small, is taken off and not
    kept: a second latent would only take theirs over.

    Args:
        error: What is missed of every token.
        n: Directions.
        generator: Of the draws.
        known: Rows of the dictionary, from which those found differ (cosines below 0.7).

    Returns:
        Rows of norm 1; random ones once nothing is left.

    Example:
        >>> missed = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> sorted(pursued(missed, 2, torch.Generator()).tolist())
        [[0.0, 1.0], [1.0, 0.0]]
    """
    left, rows = error.clone(), list[Tensor]()
    known = error[:0] if known is None else normalize(known, dim=1).to(error)
    for _ in range(ROUNDS * n):
        size = left.square().sum(1)
        if len(rows) == n or not bool(size.sum() > 0):
            break
        large = size >= size.mean()
        some, norm = left[large], size[large].sqrt()[:, None]
        chance = size[large].double().cpu()
        drawn = torch.multinomial(chance, DRAWN, replacement=True, generator=generator)
        found = normalize(some[drawn.to(some.device)], dim=1)
        for _ in range(MOVES):
            found = normalize(_along(some, norm, found).T @ some, dim=1)
        row = found[_along(some, norm, found).square().sum(0).argmax()]
        left -= (left @ row).clamp_min(0)[:, None] * row
        if not bool((known @ row >= SAME).any()):
            rows.append(row)
    more = unit_rows(n - len(rows), error.shape[1], generator).to(error)
    return torch.cat([torch.stack(rows), more]) if rows else more


def _along(
    x: Float[Tensor, "n d_in"], norm: Float[Tensor, "n 1"], rows: Float[Tensor, "m d_in"]
) -> Float[Tensor, "n m"]:
    """How far tokens reach along directions, where they point along them; else 0."""
    reach = x @ rows.T
    return reach.where(reach >= ALIKE * norm, 0)
