"""How many latents should fire a token: as many as pay for their own description."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.dictionary.config import BatchTopKConfig, SaeConfig, TopKConfig
from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.stream.buffer import ActivationBuffer, Source
from training.config import TrainConfig
from training.loop import fit

__all__ = ["Trial", "best", "description_length", "trials"]

PART = 1024  # tokens at a time
BUFFER_BYTES = 1 << 28


@dataclass(frozen=True)
class Trial:
    """What a short fit with one k came to, on tokens it was not fitted on."""

    k: int
    """Latents that were to fire a token."""
    l0: float
    """Latents that do."""
    fvu: float
    """Share of the variance that is left unexplained."""
    nats: float
    """Description length of a token, less that of a token that no latent describes."""


def trials(
    source: Source,
    held_out: Float[Tensor, "n d_in"],
    shape: SaeConfig,
    train: TrainConfig,
    ks: Sequence[int],
) -> Iterator[Trial]:
    """Fits a short dictionary for each k in turn, until two in a row are worse than the best.

    Nor are numbers tried, after the first, at which more than half of the latents would fire.

    Args:
        source: Activations to fit on.
        held_out: Others, to judge on; some thousand tokens.
        shape: The dictionary, its sparsity TopK or BatchTopK, whose k is replaced.
        train: The short run.
        ks: What to try, rising.

    Raises:
        ConfigError: The sparsity has no k, or `ks` do not rise.
        InputError: The activations are damaged.
        NumericalError: A loss is not finite.
    """
    sparsity = shape.sparsity
    if not isinstance(sparsity, TopKConfig | BatchTopKConfig):
        raise ConfigError("several k to try", f"sparsity {sparsity.kind}", "give one k, or TopK's")
    if not ks or list(ks) != sorted(set(ks)) or ks[0] < 1:
        raise ConfigError(f"ks={list(ks)}", "not rising from 1 or more", "list rising numbers")
    least, n_worse = math.inf, 0
    for k in ks:
        if k > ks[0] and 2 * k > shape.d_sae:
            return
        tried = replace(shape, sparsity=replace(sparsity, k=k))
        trial = _judged(k, _fitted(source, tried, train), held_out)
        yield trial
        n_worse = n_worse + 1 if trial.nats > least else 0
        least = min(least, trial.nats)
        if n_worse == 2:
            return


def best(tried: Sequence[Trial]) -> int:
    """The k of the shortest description; of equals the smallest.

    Args:
        tried: At least one trial.

    Example:
        >>> best([Trial(2, 2.0, 0.4, -9.0), Trial(4, 4.0, 0.2, -12.0), Trial(8, 8.0, 0.1, -7.0)])
        4
    """
    return min(tried, key=lambda each: (each.nats, each.k)).k


def description_length(fvu: float, rates: Float[Tensor, " d_sae"], d_in: int) -> float:
    """Nats that a token takes: which latents fire, and what they leave, as isotropic noise.

    A latent that fires for noise shortens the second part by about the log of the number of latents
    to choose from, which is what the first part grows by; one that fires for a feature shortens it
    by more. So the least is near the number of features that stand out of the noise. How large the
    activations are is left out: near the noise it takes about one nat.

    Args:
        fvu: Share of the variance left unexplained.
        rates: Share of tokens on which each latent fires.
        d_in: Width of the activations.

    Returns:
        Less than 0 where latents are worth their description.

    Source:
        Ayonrinde, Pearce and Sharkey 2024, arXiv:2410.11179. Differs from it: what is left is
        counted in nats too, so that no precision is chosen, and activations are not.

    Example:
        >>> round(description_length(0.25, torch.tensor([0.5, 0.5]), d_in=4), 3)
        -1.386
    """
    rate: Float64[Tensor, " d_sae"] = rates.double()
    which = -(torch.xlogy(rate, rate) + torch.xlogy(1 - rate, 1 - rate)).sum()
    return float(which) + d_in / 2 * math.log(max(fvu, 1e-300))


def _fitted(source: Source, shape: SaeConfig, train: TrainConfig) -> Sae:
    dictionary = Sae(shape)
    batches = ActivationBuffer(source, train.batch_tokens, BUFFER_BYTES, train.seed)
    start = [next(batches) for _ in range(-(-8 * PART // train.batch_tokens))]
    initialise_(dictionary, torch.cat(start), train.seed)
    for _ in fit(dictionary, batches, train):
        pass
    return dictionary.folded().eval()


@torch.no_grad()
def _judged(k: int, dictionary: Sae, held_out: Float[Tensor, "n d_in"]) -> Trial:
    fires = torch.zeros(dictionary.config.d_sae, dtype=torch.int64)
    missed = 0.0
    for part in held_out.split(PART):
        z = dictionary.encode_sparse(part)
        fires += z.n_fires()
        missed += float((part - dictionary.decode_sparse(z)[-1]).double().square().sum())
    total = float((held_out - held_out.mean(0)).double().square().sum())
    rates, fvu = fires / len(held_out), missed / total if total else math.nan
    nats = description_length(fvu, rates, dictionary.config.d_in)
    return Trial(k, float(rates.sum()), fvu, nats)
