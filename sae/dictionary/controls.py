"""Dictionaries that learned nothing, or half: what a fitted one must beat to mean anything."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.config import SaeConfig
from sae.dictionary.directions import covariance_rows, principal_rows
from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae

__all__ = ["freeze_decoder_", "freeze_encoder_", "principal", "random_matched"]


def freeze_decoder_(sae: Sae) -> None:
    """Keep every direction as it is while the dictionary is fitted, in place.

    Args:
        sae: A dictionary, prepared for fitting; encoder, biases and thresholds stay free.

    Source:
        Korznikov et al. 2026, arXiv:2602.14111 (frozen decoder).

    Example:
        >>> from sae.dictionary.config import TopKConfig
        >>> sae = Sae(SaeConfig(2, 4, TopKConfig(k=1)))
        >>> freeze_decoder_(sae)
        >>> [name for name, each in sae.named_parameters() if each.requires_grad]
        ['W_enc', 'b_enc', 'b_dec']
    """
    sae.W_dec.requires_grad_(False)


def freeze_encoder_(sae: Sae) -> None:
    """Keep which latents fire, and how strongly, while the dictionary is fitted, in place.

    Of the parameters only `W_dec` stays free: `b_dec` is taken off what is encoded. BatchTopK's
    threshold, which is measured and not learned, still follows.

    Args:
        sae: A dictionary, prepared for fitting.

    Source:
        Korznikov et al. 2026, arXiv:2602.14111 (frozen encoder). Ours freezes `b_dec` too.
    """
    sae.requires_grad_(False)
    sae.W_dec.requires_grad_(True)


def random_matched(config: SaeConfig, sample: Float[Tensor, "n d_in"], seed: int) -> Sae:
    """A dictionary of random directions, drawn with the covariance of a sample.

    Args:
        config: Its shape and sparsity.
        sample: Residual vectors of real tokens, a few thousand; unit: activation.
        seed: Of the directions.

    Returns:
        A dictionary in evaluation mode, not fitted: its encoder is its decoder's transpose, its
        biases are those of `initialise_`, and its threshold, where it has one, is the sample's.

    Raises:
        InputError: The sample is empty, all zeros, or holds a value that is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    return _with_rows(config, sample, covariance_rows(sample, config.d_sae, generator))


def principal(config: SaeConfig, sample: Float[Tensor, "n d_in"]) -> Sae:
    """A dictionary of a sample's principal directions, each with both signs.

    Args:
        config: Its shape and sparsity; d_sae at most 2 d_in.
        sample: Residual vectors of real tokens, a few thousand; unit: activation.

    Returns:
        As `random_matched` does, but centred on the sample's mean, so that latents are coordinates.

    Raises:
        ConfigError: More latents than twice the width.
        InputError: The sample is empty, all zeros, or holds a value that is not finite.
    """
    return _with_rows(config, sample, principal_rows(sample, config.d_sae), sample.mean(0))


@torch.no_grad()
def _with_rows(
    config: SaeConfig,
    sample: Float[Tensor, "n d_in"],
    rows: Float[Tensor, "d_sae d_in"],
    centre: Float[Tensor, " d_in"] | None = None,
) -> Sae:
    sae = Sae(config)
    initialise_(sae, sample, seed=0, rows=rows)
    if centre is not None:
        sae.b_dec.copy_(sae.scale * centre)
    sae.encode_sparse(sample)  # in training mode, which sets a threshold of the batch
    return sae.eval()
