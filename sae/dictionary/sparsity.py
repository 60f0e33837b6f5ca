"""pre-activations -> latents: one small module for each member of `SparsityConfig`.

Each says in `select` which entries have a value or a gradient, from pre-activations a few tokens at
a time, and in `activate` what becomes of them; `forward` is both at once, dense and differentiable.
Each is positively homogeneous: scaling the pre-activations and `scale_`-ing the module by the same
factor scales the latents by it. Folding a dictionary's input scale relies on that. `added` makes
room for more latents, and `constrain_` puts parameters back where they mean something.
"""

from typing import assert_never

from jaxtyping import Float
from torch import Tensor, nn

from sae.dictionary.gated import Gated
from sae.dictionary.jump_relu import JumpRelu
from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    SparsityConfig,
    TopKConfig,
)
from sae.dictionary.latents import Latents
from sae.dictionary.selection import PreActivations
from sae.dictionary.top_k import BatchTopK, TopK

__all__ = ["BatchTopK", "Gated", "JumpRelu", "Relu", "Sparsity", "TopK", "sparsity_for"]


class Relu(nn.Module):
    """Positive pre-activations fire."""

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit; `training` makes no difference.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted.

        Returns:
            Latent activations, at least 0.

        Example:
            >>> import torch
            >>> Relu()(torch.tensor([[3.0, -1.0]]), training=False)
            tensor([[3., 0.]])
        """
        return pre.relu()

    def select(self, pre: PreActivations, training: bool, progress: float = 1.0) -> Latents:
        """The entries above 0.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted; makes no difference.
            progress: Share of the fit behind; makes no difference.
        """
        return pre.above(0.0)

    def activate(self, pre: Latents, training: bool) -> Latents:
        """Latents of the entries that `select` gave: those entries themselves.

        Args:
            pre: Entries with their pre-activations.
            training: Whether a batch is being fitted; makes no difference.
        """
        return pre

    def scale_(self, factor: float) -> None:
        """Nothing: no state has the unit of an activation.

        Args:
            factor: New unit over old.
        """

    def added(self, n: int) -> "Relu":
        """This: no state belongs to single latents.

        Args:
            n: Latents to add.
        """
        return self

    def constrain_(self) -> None:
        """Nothing: there are no parameters."""


Sparsity = Relu | TopK | BatchTopK | JumpRelu | Gated
"""Any of the modules `sparsity_for` makes."""


def sparsity_for(config: SparsityConfig, d_sae: int) -> Sparsity:
    """The module a config describes.

    Args:
        config: Any member of `SparsityConfig`.
        d_sae: Number of latents.

    Returns:
        A fresh module.

    Example:
        >>> sparsity_for(TopKConfig(k=3), d_sae=8).k
        3
    """
    match config:
        case ReluConfig():
            return Relu()
        case TopKConfig():
            return TopK(config)
        case BatchTopKConfig():
            return BatchTopK(config)
        case JumpReluConfig() | JumpReluTanhConfig() | JumpReluL0Config():
            return JumpRelu(config, d_sae)
        case GatedConfig():
            return Gated(d_sae)
        case _:
            assert_never(config)
