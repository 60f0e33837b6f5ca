"""Gated: one path decides whether a latent fires, another how strongly."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.dictionary.latents import Latents
from sae.dictionary.selection import PreActivations

__all__ = ["Gated"]


class Gated(nn.Module):
    """Latents whose gate is positive fire, as strongly as their magnitude says.

    The gate is the pre-activation, `b_enc` its bias. The magnitude shares the encoder's directions:
    `exp(r_mag) pre + offset`, where positive. So the penalty on gates does not shrink magnitudes.

    The paper's bias of the magnitude, which stands beside the gate's and not on top of it, is
    `b_mag = offset + exp(r_mag) b_enc`; `r_mag` is the same.

    Source:
        Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders",
        arXiv:2404.16014. Differs from it: the magnitude's bias is an offset to the
        gate's pre-activation, so that a latent is a function of its pre-activation alone.
    """

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.r_mag = nn.Parameter(torch.zeros(d_sae))
        self.offset = nn.Parameter(torch.zeros(d_sae))

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit; `training` makes no difference.

        Args:
            pre: Pre-activations of the gates, of real tokens.
            training: Whether a batch is being fitted.

        Returns:
            Latent activations, at least 0. No gradient passes the gate's decision.

        Example:
            >>> gated = Gated(d_sae=3)
            >>> with torch.no_grad():
            ...     _ = gated.offset.copy_(torch.tensor([1.0, 9.0, -4.0]))
            >>> gated(torch.tensor([[3.0, -1.0, 3.0]]), training=False).tolist()
            [[4.0, 0.0, 0.0]]
        """
        magnitude = (self.r_mag.exp() * pre + self.offset).relu()
        return torch.where(pre > 0, magnitude, 0.0)

    def select(self, pre: PreActivations, training: bool, progress: float = 1.0) -> Latents:
        """The entries whose gate is open, with the gate's pre-activation.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted; makes no difference.
            progress: Share of the fit behind; makes no difference.
        """
        return pre.above(0.0)

    def activate(self, pre: Latents, training: bool) -> Latents:
        """Latents of the entries that `select` gave; some may be 0, where the magnitude is.

        Args:
            pre: Entries with their pre-activations.
            training: Whether a batch is being fitted; makes no difference.
        """
        gain, offset = self.r_mag.exp()[pre.index], self.offset[pre.index]
        return pre.valued((gain * pre.value + offset).relu())

    def b_mag(self, b_enc: Float[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
        """The paper's bias of the magnitude: `exp(r_mag) (pre - b_enc) + b_mag` is the magnitude.

        Args:
            b_enc: Bias of the gate.

        Returns:
            The bias, in the unit of the pre-activations.
        """
        return self.offset + self.r_mag.exp() * b_enc

    @torch.no_grad()
    def set_(
        self,
        r_mag: Float[Tensor, " d_sae"],
        b_mag: Float[Tensor, " d_sae"],
        b_enc: Float[Tensor, " d_sae"],
    ) -> None:
        """Take on the paper's numbers, in place.

        Args:
            r_mag: Logarithm of the magnitude's gain.
            b_mag: The paper's bias of the magnitude.
            b_enc: Bias of the gate.

        Example:
            >>> gated, one = Gated(d_sae=1), torch.ones(1)
            >>> gated.set_(r_mag=0 * one, b_mag=3 * one, b_enc=2 * one)
            >>> gated.offset.item(), gated.b_mag(2 * one).item()
            (1.0, 3.0)
        """
        self.r_mag.copy_(r_mag)
        self.offset.copy_(b_mag - r_mag.exp() * b_enc)

    def scale_(self, factor: float) -> None:
        """Express the offsets in another unit, in place; gains have none.

        Args:
            factor: New unit over old, above 0.
        """
        self.offset.data *= factor

    def added(self, n: int) -> "Gated":
        """A copy for n more latents after these, whose magnitudes are their gates.

        Args:
            n: Latents to add.
        """
        wider = copy.deepcopy(self)
        for each in wider.parameters():
            each.data = torch.cat([each.data, each.data.new_zeros(n)])
        return wider

    def constrain_(self) -> None:
        """Nothing: any gain and any offset will do."""
