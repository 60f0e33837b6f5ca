"""A finished dictionary + other activations -> the dictionary continued, with room for more."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["continued"]


def continued(sae: Sae, sample: Float[Tensor, "n d_in"], n_added: int = 0, seed: int = 0) -> Sae:
    """A dictionary ready for `training.loop.fit` on the activations `sample` was taken from.

    Latent i of the result starts as latent i of `sae`; the added ones follow, in seeded random
    directions. The input scale is fitted to the sample, since a finished dictionary is folded and
    would be trained in the model's own units; this changes no reconstruction. Of a crosscoder the
    models' scales among each other stay, since what its rows say depends on them.

    Continue the same dictionary twice, on the tuned model and on a null, with equal `n_added`,
    `seed` and training configuration: then the two differ by their activations alone. Adam
    starts from zero, so the rate's warm-up is needed here too.

    Args:
        sae: A finished dictionary; it is left alone.
        sample: Residual vectors of real tokens of the other model; unit: activation.
        n_added: Latents to add, at least 0.
        seed: Of the added directions.

    Returns:
        A dictionary of `sae.config.d_sae + n_added` latents. Fold it when it is fitted.

    Raises:
        ConfigError: `n_added` is negative.
        InputError: The sample is empty, all zeros, or holds a value that is not finite.

    Source:
        Bricken et al. 2024, "Stage-wise model diffing". Differs from it: latents are added, so
        that what is new need not displace what was there.

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
    return scaled.added(n_added, torch.Generator().manual_seed(seed))
