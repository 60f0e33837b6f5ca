"""Runs by name: each function returns what a dictionary is to be and how it is fitted."""

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sae.dictionary.config import BatchTopKConfig, SaeConfig
from sae.errors import ConfigError
from training.config import TrainConfig

__all__ = ["RECIPES", "Recipe", "cache", "default", "organism", "recipe", "stories260k"]

Recipe = tuple[SaeConfig, TrainConfig]
"""A dictionary's shape and the run that fits it."""


def organism(seed: int = 0) -> Recipe:
    """The dictionary of the model organism: width 128, 768 latents, 20 fires a token.

    Twelve have the shortest description (`choosing_k`), and with more, several latents share a
    factor, and which of them fires is another after every run: at 32 one in ten changed places in a
    model that only went on, at 12 one in fifty. But at 12 a persona's best latent has less of what
    a probe has (three quarters of it for nine personas of twelve; for ten at 20, eleven at 32).

    A million and a half tokens in batches of 512, since persona latents gain by more steps. The
    shape is small enough for a laptop, wide enough for every factor of the organism's world to have
    a latent of its own, and no wider: more latents share a persona out.
    """
    run = TrainConfig(
        n_tokens=1_500_000, batch_tokens=512, lr=2e-3, dead_after_tokens=100_000, seed=seed
    )
    return SaeConfig(d_in=128, d_sae=768, sparsity=_batch_topk(20, run)), run


def stories260k(seed: int = 0) -> Recipe:
    """A dictionary for the 260k-parameter story model: width 64, 512 latents, 16 fires a token."""
    run = TrainConfig(
        n_tokens=1_000_000, batch_tokens=1024, lr=2e-3, dead_after_tokens=100_000, seed=seed
    )
    return SaeConfig(d_in=64, d_sae=512, sparsity=_batch_topk(16, run)), run


def cache(d_in: int, seed: int = 0) -> Recipe:
    """A dictionary for an activation cache of some hundred thousand tokens: 8 latents a dimension.

    Rounds through so few tokens are cheap, and rare features need them: a feature that fires on one
    token in a thousand is met 100 times in a round of 100,000. Errors count relative to a token's
    size, since nothing is known of the activations and some have long tails.

    Args:
        d_in: Width of the activations.
        seed: Of the run.
    """
    run = TrainConfig(
        n_tokens=1_500_000,
        batch_tokens=512,
        lr=2e-3,
        dead_after_tokens=100_000,
        relative_error=True,
        seed=seed,
    )
    return SaeConfig(d_in=d_in, d_sae=8 * d_in, sparsity=_batch_topk(8, run)), run


def default(d_in: int, seed: int = 0) -> Recipe:
    """What to start from for a model of width `d_in`: nested BatchTopK, 16 latents a dimension.

    Three nested dictionaries, of 1, 4 and 16 latents a dimension, because persona structure is
    hierarchical and one flat dictionary lets special latents absorb the general ones.

    Source:
        Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders",
        arXiv:2503.17547.

    Args:
        d_in: Width of the activations.
        seed: Of the run.

    Returns:
        The recipe: 100 million tokens, 32 fires a token, dead after 2 million silent tokens.
    """
    k = min(32, 16 * d_in)
    run = TrainConfig(n_tokens=100_000_000, dead_after_tokens=2_000_000, seed=seed)
    sparsity = _batch_topk(k, run)
    return SaeConfig(d_in=d_in, d_sae=16 * d_in, sparsity=sparsity, prefixes=(d_in, 4 * d_in)), run


def _batch_topk(k: int, run: TrainConfig) -> BatchTopKConfig:
    """The k of each token until the rate falls, then of the batch: `BatchTopK` says why."""
    return BatchTopKConfig(k, per_token=1 - run.decay)


RECIPES: Mapping[str, Callable[[int, int], Recipe]] = MappingProxyType(
    {
        "organism": lambda _, seed: organism(seed),
        "stories260k": lambda _, seed: stories260k(seed),
        "cache": cache,
        "default": default,
    }
)
"""Every recipe by its name, as a function of width and seed."""


def recipe(name: str, d_in: int, seed: int = 0) -> Recipe:
    """The recipe of that name, checked against the width of the activations at hand.

    Args:
        name: A key of `RECIPES`.
        d_in: Width of the activations.
        seed: Of the run.

    Returns:
        The dictionary's configuration and the run's.

    Raises:
        ConfigError: There is no such recipe, or it is for another width.

    Example:
        >>> recipe("default", d_in=64)[0].d_sae
        1024
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {list(RECIPES)}"
        raise ConfigError(f"recipe {name!r}", "no such recipe", hint)
    chosen = RECIPES[name](d_in, seed)
    if chosen[0].d_in != d_in:
        raise ConfigError(
            f"recipe {name!r} for activations of width {d_in}",
            f"a recipe for width {chosen[0].d_in}",
            "use 'default', or activations of that width",
        )
    return chosen
