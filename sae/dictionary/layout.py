"""Whose vectors a dictionary's inputs are, and what that asks of its rows.

A layout is a part of a dictionary: it knows scales of inputs, what the length of a row is, where
rows start and what holds after every step. `Single` is one model, `SideBySide` several. An encoder
is given as rows too, one a latent: `W_enc.T`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.dictionary.directions import unit_rows
from sae.dictionary.sides import PRICE, CrosscoderConfig
from sae.errors import InputError

__all__ = ["Costs", "Layout", "SideBySide", "Single", "layout_for"]

_LEAST = 1e-12  # below which a row has no direction
_ROWS = 1024  # projected at a time, in cache


class Costs(NamedTuple):
    """What a latent's activation is weighted by, and what firing costs."""

    length: Float[Tensor, " d_sae"]
    """Length of its decoder row."""
    price: Float[Tensor, " d_sae"] | None = None
    """Factor on what firing costs; None for 1."""


class Single(nn.Module):
    """Vectors of one model, and decoder rows of norm 1."""

    def __init__(self, d_in: int) -> None:
        super().__init__()
        self.d_in = d_in

    def balance_(self, sample: Float[Tensor, "n d_in"]) -> None:
        """Nothing: there is nothing to balance.

        Args:
            sample: Residual vectors.
        """

    def balanced(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """The vectors themselves.

        Args:
            x: Residual vectors.
        """
        return x

    def scale(self, input_scale: Float[Tensor, ""], dtype: torch.dtype) -> Float[Tensor, ""]:
        """What a vector is multiplied by: `input_scale`.

        Args:
            input_scale: Of the dictionary.
            dtype: Of the vectors.
        """
        return input_scale

    def rows(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        """Random decoder rows of norm 1.

        Args:
            n: How many.
            generator: Source of the randomness, on the CPU.
        """
        return unit_rows(n, self.d_in, generator)

    def placed(self, rows: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "d_sae d_in"]:
        """The rows a dictionary starts with, from rows of norm 1: those.

        Args:
            rows: Directions.
        """
        return rows

    def readers(self, rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Where the encoder of decoder rows starts: a copy of them.

        Args:
            rows: Decoder rows.
        """
        return rows.clone()

    def costs(self, rows: Float[Tensor, "d_sae d_in"]) -> Costs:
        """The norms of decoder rows, all at one price.

        Args:
            rows: Decoder rows.
        """
        return Costs(rows.norm(dim=-1))

    def silence_(self, rows: Float[Tensor, "d_sae d_in"]) -> None:
        """Nothing: every latent reads and writes all there is.

        Args:
            rows: Decoder or encoder rows, or gradients of theirs.
        """

    @torch.no_grad()
    def constrain_(self, rows: Float[Tensor, "d_sae d_in"]) -> None:
        """Give every row norm 1, in place.

        Args:
            rows: Decoder rows.
        """
        rows.div_(rows.norm(dim=-1, keepdim=True).clamp_min_(_LEAST))

    @torch.no_grad()
    def project_(
        self, gradient: Float[Tensor, "d_sae d_in"], rows: Float[Tensor, "d_sae d_in"]
    ) -> None:
        """Take from a gradient what would only change the lengths of rows, in place.

        Args:
            gradient: Of `rows`.
            rows: Decoder rows.
        """
        for part, along in zip(gradient.split(_ROWS), rows.split(_ROWS), strict=True):
            share = torch.linalg.vecdot(part, along) / along.norm(dim=-1).clamp_min_(_LEAST) ** 2
            part.addcmul_(along, share.unsqueeze(-1), value=-1)


class SideBySide(nn.Module):
    """Vectors of several models side by side, and decoder rows whose norms in each sum to 1.

    Each model has a scale of its own, `balance`, beside the dictionary's: that of the first is 1,
    and balanced vectors of all have the mean square of the first's. So no model rules the loss, and
    latents are in units of the first model's activations once the dictionary is folded. Another
    library's crosscoder keeps that library's scales and unit.

    With rows of that length an activation is the norm-weighted latent `f_i sum_m ||d_i^m||` of a
    crosscoder, so that the sparsities select by it and penalties are on it.

    Source:
        Minder et al. 2025, "Overcoming sparsity artifacts in crosscoders", arXiv:2504.02922, for
        selection by the norm-weighted latent; Lindsey et al. 2024 for the penalty on it. Differs
        from both: the length of a row is fixed, and its share of each model is what is learned.
    """

    balance: Float[Tensor, " n_models"]

    def __init__(self, config: CrosscoderConfig, d_in: int) -> None:
        super().__init__()
        self.config, self.d_in = config, d_in
        self.d_model = d_in // config.n_models
        self.register_buffer("balance", torch.ones(config.n_models, dtype=torch.float64))

    def blocks(self, rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_models d_model"]:
        """A view of side-by-side vectors, model by model.

        Args:
            rows: Vectors or rows.
        """
        return rows.unflatten(-1, (self.config.n_models, self.d_model))

    @torch.no_grad()
    def balance_(self, sample: Float[Tensor, "n d_in"]) -> None:
        """Fit the models' scales to a sample, in place.

        Args:
            sample: Residual vectors; unit: activation.

        Raises:
            InputError: The vectors of one model are all zero or not finite.
        """
        squares = self.blocks(sample.double()).square().sum(-1).mean(0)
        if not bool(((squares > 0) & squares.isfinite()).all()):
            found = f"mean squared norms {[f'{each:g}' for each in squares.tolist()]}"
            do = "give finite vectors of every model, not all zero"
            raise InputError("a sample to start from", found, do)
        self.balance.copy_((squares[0] / squares).sqrt())

    def balanced(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """The vectors of every model in its own scale.

        Args:
            x: Residual vectors; unit: activation.
        """
        return (self.blocks(x) * self.balance.to(x.dtype).unsqueeze(-1)).flatten(-2)

    def scale(self, input_scale: Float[Tensor, ""], dtype: torch.dtype) -> Float[Tensor, " d_in"]:
        """What each coordinate is multiplied by: `input_scale` times its model's balance.

        Args:
            input_scale: Of the dictionary.
            dtype: Of the vectors.
        """
        return (input_scale * self.balance).to(dtype).repeat_interleave(self.d_model)

    def rows(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        """Random decoder rows that are alike in every model.

        Args:
            n: How many.
            generator: Source of the randomness, on the CPU.
        """
        alike = unit_rows(n, self.d_model, generator) / self.config.n_models
        return alike.repeat(1, self.config.n_models)

    def placed(self, rows: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "d_sae d_in"]:
        """The rows a dictionary starts with: others, with what `constrain_` asks put right.

        Args:
            rows: Directions, as many as the dictionary has latents.
        """
        rows = rows.clone()
        self.constrain_(rows)
        return rows

    def readers(self, rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Where the encoder of decoder rows starts: it reads 1 where a row alone was written.

        Args:
            rows: Decoder rows.
        """
        return rows / rows.square().sum(-1, keepdim=True).clamp_min(_LEAST**2)

    def costs(self, rows: Float[Tensor, "d_sae d_in"]) -> Costs:
        """Sums of the norms of a row in each model, and the lower price of shared latents.

        Args:
            rows: Decoder rows.
        """
        length, shared = self.blocks(rows).norm(dim=-1).sum(-1), self.config.shared
        if shared is None:
            return Costs(length)
        price = torch.ones_like(length)
        price[: shared.n] = PRICE if shared.price is None else shared.price
        return Costs(length, price)

    @torch.no_grad()
    def silence_(self, rows: Float[Tensor, "d_sae d_in"]) -> None:
        """Set to 0, in place, what latents of one model alone have in the others.

        Args:
            rows: Decoder or encoder rows, or gradients of theirs.
        """
        for model, own in enumerate(self.config.own):
            kept = self.blocks(rows[own])[:, model].clone()
            rows[own] = 0
            self.blocks(rows[own])[:, model] = kept

    @torch.no_grad()
    def constrain_(self, rows: Float[Tensor, "d_sae d_in"]) -> None:
        """Make shared rows alike in every model and the norms of each row sum to 1, in place.

        Args:
            rows: Decoder rows; those of latents of one model alone are 0 in the others afterwards.
        """
        self._tie_(rows)
        self.silence_(rows)
        rows.div_(self.costs(rows).length.unsqueeze(-1).clamp_min_(_LEAST))

    @torch.no_grad()
    def project_(
        self, gradient: Float[Tensor, "d_sae d_in"], rows: Float[Tensor, "d_sae d_in"]
    ) -> None:
        """Take from a gradient, in place, what `constrain_` would undo.

        What is left is the gradient with respect to rows that are divided by their length. A row's
        length has no gradient where it is 0 in a model, so nothing holds it there.

        Args:
            gradient: Of `rows`.
            rows: Decoder rows.
        """
        self._tie_(gradient)
        self.silence_(gradient)
        blocks = self.blocks(rows)
        norms = blocks.norm(dim=-1, keepdim=True)
        along = torch.linalg.vecdot(gradient, rows) / norms.sum((-1, -2)).clamp_min_(_LEAST)
        step = blocks / norms.clamp_min_(_LEAST) * along[:, None, None]
        gradient.sub_(step.flatten(-2))

    def _tie_(self, rows: Float[Tensor, "d_sae d_in"]) -> None:
        shared = self.blocks(rows[: self.config.n_shared])
        shared.copy_(shared.mean(1, keepdim=True).expand_as(shared))


Layout = Single | SideBySide
"""Any of the modules `layout_for` makes."""


def layout_for(config: CrosscoderConfig | None, d_in: int) -> Layout:
    """The module a config describes.

    Args:
        config: Several models; None for one.
        d_in: Width of the vectors.

    Example:
        >>> layout_for(CrosscoderConfig(n_models=2), d_in=6).d_model
        3
    """
    return Single(d_in) if config is None else SideBySide(config, d_in)
