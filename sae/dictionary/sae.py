"""activations -> latents -> reconstructions: the sparse autoencoder."""

import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from sae.dictionary import kernels
from sae.dictionary.config import SaeConfig
from sae.dictionary.facts import facts, page
from sae.dictionary.latents import Latents
from sae.dictionary.layout import layout_for
from sae.dictionary.screening import pre_activations
from sae.dictionary.sparsity import sparsity_for
from sae.errors import ConfigError

__all__ = ["Sae", "SaeOutput"]


class SaeOutput(NamedTuple):
    """What one pass through a dictionary gives."""

    z: Float[Tensor, "n d_sae"]
    """Latent activations, at least 0; unit: activation times the dictionary's `input_scale`."""
    x_hat: Float[Tensor, "n d_in"]
    """Reconstructions; unit: activation."""
    pre: Float[Tensor, "n d_sae"]
    """Pre-activations, in the unit of `z`."""


class Sae(nn.Module):
    """A sparse autoencoder: `pre = (s x - b_dec) W_enc + b_enc`, `x_hat = (z W_dec + b_dec) / s`.

    Row i of `W_dec` is the direction of latent i. `s`, the buffer `input_scale`, makes training
    independent of the model's norm (`E ||s x||^2 = d_in`); `folded` moves it into biases and
    thresholds, after which latents are in activation units. Finished dictionaries are folded.
    With `config.crosscoder`, x is several models' vectors side by side and `s` a number for each
    (`layout.SideBySide`), of which only the part they have in common is folded.
    In training mode a BatchTopK dictionary selects over the batch and moves its threshold;
    `.eval()` makes every token's latents its own.

    A fresh dictionary holds seeded random unit directions, which `initialise_` fits to data.
    Parameters and buffers are all its state, and all are saved.

    Args:
        config: Shape and sparsity.

    Example:
        >>> from sae.dictionary.config import TopKConfig
        >>> sae = Sae(SaeConfig(d_in=2, d_sae=4, sparsity=TopKConfig(k=1)))
        >>> sae(torch.ones(3, 2)).x_hat.shape
        torch.Size([3, 2])
    """

    input_scale: Float64[Tensor, ""]

    def __init__(self, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = layout_for(config.crosscoder, config.d_in)
        rows = self.layout.rows(config.d_sae, torch.Generator().manual_seed(0))
        rows = self.layout.placed(rows)
        self.W_enc = nn.Parameter(self.layout.readers(rows).T)  # a latent's weights lie together
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(config.d_sae))
        self.b_dec = nn.Parameter(torch.zeros(config.d_in))
        self.sparsity = sparsity_for(config.sparsity, config.d_sae)
        self.register_buffer("input_scale", torch.tensor(1.0, dtype=torch.float64))

    @property
    def scale(self) -> Float[Tensor, "*d_in"]:
        """`s`: what activations are multiplied by, `input_scale` or a number for each dimension."""
        return self.layout.scale(self.input_scale, self.W_enc.dtype)

    def pre_activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """What the sparsity acts on: `(s x - b_dec) W_enc + b_enc`.

        Args:
            x: Residual vectors of real tokens; unit: activation.

        Returns:
            Pre-activations; unit: activation times `input_scale`.
        """
        scaled = self.scale * x.to(self.W_enc.dtype)
        return torch.addmm(self.b_enc, scaled - self.b_dec, self.W_enc)

    def encode(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """Latent activations of `x`.

        Args:
            x: Residual vectors of real tokens; unit: activation.

        Returns:
            Latents, at least 0; unit: activation times `input_scale` (1 once folded).

        Raises:
            InputError: A BatchTopK dictionary outside training has no threshold yet.
        """
        return self.sparsity(self.pre_activations(x), self.training)

    def pre_sparse(
        self,
        x: Float[Tensor, "n d_in"],
        dtype: torch.dtype | None = None,
        progress: float = 1.0,
        W_enc: Float[Tensor, "d_in d_sae"] | None = None,  # noqa: N803
    ) -> Latents:
        """Pre-activations of the entries that fire or, in training, teach a threshold.

        Args:
            x: Residual vectors of real tokens; unit: activation. No gradient reaches them.
            dtype: Of the encoder's product; that of the weights where None. Where it is narrower,
                pre-activations are rounded to it; all else stays in the type of the weights.
            progress: Share of the fit behind, in [0, 1]; matters in training alone.
            W_enc: The encoder's weights as a caller's graph has them; the parameter where None.

        Returns:
            Entries at no n d_sae of memory, differentiable with respect to the parameters; unit:
            activation times `input_scale`.

        Raises:
            InputError: A BatchTopK dictionary outside training has no threshold yet.
        """
        centred = torch.addcmul(-self.b_dec, x.to(self.W_enc.dtype), self.scale).detach()
        pre = pre_activations(centred, self.W_enc, self.b_enc, dtype or centred.dtype)
        kept = self.sparsity.select(pre, self.training, progress)
        kept = kept.valued(kept.value.to(centred.dtype))
        if not torch.is_grad_enabled():
            return kept
        W_enc = self.W_enc if W_enc is None else W_enc  # noqa: N806
        return kernels.encode(kept, centred, W_enc, self.b_enc, self.b_dec)

    def encode_sparse(
        self, x: Float[Tensor, "n d_in"], dtype: torch.dtype | None = None
    ) -> Latents:
        """Latent activations of `x` with the zeros left out, at no n d_sae of memory.

        Args:
            x: Residual vectors of real tokens; unit: activation. No gradient reaches them.
            dtype: Of the encoder's product, as in `pre_sparse`.

        Returns:
            What `encode` gives, differentiable with respect to the parameters. In training some
            entries of JumpReLU are 0: those that teach a threshold without firing.

        Raises:
            InputError: A BatchTopK dictionary outside training has no threshold yet.
        """
        return self.sparsity.activate(self.pre_sparse(x, dtype), self.training)

    def decode_sparse(self, latents: Latents) -> tuple[Float[Tensor, "n d_in"], ...]:
        """Reconstructions from each nested prefix of the latents that fire.

        Args:
            latents: From `encode_sparse`.

        Returns:
            One reconstruction for each of `config.prefixes`, then that of all latents; each is what
            `decode_nested` gives.
        """
        found = kernels.nested(latents, self.W_dec, self.b_dec, self.config.prefixes)
        return tuple(each / self.scale for each in found)

    def decode(self, z: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_in"]:
        """Reconstructions from latents: `(z W_dec + b_dec) / s`.

        Args:
            z: Latents in the unit `encode` gives.

        Returns:
            Reconstructions; unit: activation.
        """
        return torch.addmm(self.b_dec, z, self.W_dec) / self.scale

    def decode_nested(self, z: Float[Tensor, "n d_sae"]) -> tuple[Float[Tensor, "n d_in"], ...]:
        """Reconstructions from each nested prefix of the latents, at the cost of one decoding.

        Args:
            z: Latents in the unit `encode` gives.

        Returns:
            One reconstruction for each of `config.prefixes`, then that of all latents.

        Source:
            Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse
            autoencoders", arXiv:2503.17547.
        """
        found = kernels.nested(z, self.W_dec, self.b_dec, self.config.prefixes)
        return tuple(each / self.scale for each in found)

    def forward(self, x: Float[Tensor, "n d_in"]) -> SaeOutput:
        """Latents, reconstruction and pre-activations of `x`.

        Args:
            x: Residual vectors of real tokens; unit: activation.

        Returns:
            The three, `x_hat` being `decode(encode(x))`.
        """
        pre = self.pre_activations(x)
        z = self.sparsity(pre, self.training)
        return SaeOutput(z=z, x_hat=self.decode(z), pre=pre)

    def rescaled(self, input_scale: float) -> "Sae":
        """An equal dictionary, whose reconstructions are the same, with another `input_scale`.

        Args:
            input_scale: The scale wanted, finite and above 0.

        Returns:
            A copy with biases and thresholds times `input_scale / self.input_scale`; its latents
            are times that too. Directions are untouched.

        Raises:
            ConfigError: `input_scale` is not a finite number above 0.
        """
        if not 0 < input_scale < float("inf"):
            raise ConfigError(f"input_scale={input_scale}", "no scale", "give a number above 0")
        twin = copy.deepcopy(self)
        twin.zero_grad(set_to_none=True)
        factor = input_scale / self.input_scale.item()
        with torch.no_grad():
            twin.b_enc *= factor
            twin.b_dec *= factor
            twin.sparsity.scale_(factor)
            twin.input_scale.fill_(input_scale)
        return twin

    def folded(self) -> "Sae":
        """An equal dictionary with `input_scale` 1, whose latents are in activation units.

        Returns:
            A copy; its latents are this one's divided by `input_scale`.
        """
        return self.rescaled(1.0)

    def added(self, n: int, generator: torch.Generator) -> "Sae":
        """A dictionary with n more latents after these, in random unit directions.

        Old latents keep their index and weights; under TopK and BatchTopK the new ones compete with
        them. What the sparsity knows of each latent is added as its own `added` says.

        Args:
            n: Number of latents to add, at least 0.
            generator: Source of the directions, on the CPU.

        Returns:
            A new dictionary; this one is left alone.

        Raises:
            ConfigError: n is negative.
        """
        if n < 0:
            raise ConfigError(f"{n} added latents", "a negative number", "give 0 or more")
        wider = Sae(replace(self.config, d_sae=self.config.d_sae + n)).train(self.training)
        rows = self.layout.rows(n, generator).to(self.W_dec)
        with torch.no_grad():
            wider.W_dec = nn.Parameter(torch.cat([self.W_dec, rows]))
            wider.W_enc = nn.Parameter(torch.cat([self.W_enc.T, self.layout.readers(rows)]).T)
            wider.b_enc = nn.Parameter(torch.cat([self.b_enc, self.b_enc.new_zeros(n)]))
            wider.b_dec = nn.Parameter(self.b_dec.clone())
        for name, parameter in self.named_parameters(recurse=False):
            getattr(wider, name).requires_grad_(parameter.requires_grad)
        wider.sparsity = copy.deepcopy(self.sparsity.added(n))
        wider.layout = copy.deepcopy(self.layout)
        wider.input_scale = self.input_scale.clone()
        return wider

    def normalise_decoder_(self) -> None:
        """Give every row of `W_dec` length 1 and what else its layout asks, in place."""
        self.layout.constrain_(self.W_dec)

    def constrain_(self) -> None:
        """What holds of rows and thresholds put back, in place; wanted after every step."""
        if self.W_dec.requires_grad:  # a frozen one keeps every bit
            self.normalise_decoder_()
        self.layout.silence_(self.W_enc.T)
        self.sparsity.constrain_()

    def remove_parallel_gradient_(self) -> None:
        """Take from the gradients what `constrain_` would undo, as rows' lengths, in place."""
        if self.W_dec.grad is not None:
            self.layout.project_(self.W_dec.grad, self.W_dec)
        if self.W_enc.grad is not None:
            self.layout.silence_(self.W_enc.grad.T)

    def _facts(self) -> dict[str, object]:
        return facts(self.config, self.sparsity, self.input_scale.item())

    def __repr__(self) -> str:
        return f"Sae({', '.join(f'{name}={value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        return page("Sae", self._facts())
