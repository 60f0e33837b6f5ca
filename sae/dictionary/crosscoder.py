"""One latent space over several models, model by model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.latents import Latents
from sae.dictionary.layout import SideBySide
from sae.dictionary.metrics import FvuSums, fvu_update
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError

__all__ = ["Crosscoder", "side_by_side"]

Several = Float[Tensor, "n n_models d_model"] | Sequence[Float[Tensor, "n d_model"]]
"""Residual vectors of several models at the same tokens."""


def side_by_side(x: Several) -> Float[Tensor, "n d_in"]:
    """Vectors of several models as a dictionary over all of them takes them.

    Args:
        x: Residual vectors of each model at the same tokens, the base model's first.

    Returns:
        For each token the models' vectors one after the other.

    Raises:
        InputError: The models differ in tokens or width.

    Example:
        >>> side_by_side([torch.zeros(1, 2), torch.ones(1, 2)]).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    if isinstance(x, Tensor):
        return x.flatten(1)
    if len({each.shape for each in x}) != 1:
        found = f"shapes {[list(each.shape) for each in x]}"
        raise InputError("vectors of several models", found, "give the same tokens of each")
    return torch.cat(list(x), dim=1)


class Crosscoder:
    """A dictionary over several models, seen model by model; the dictionary is not copied.

    The dictionary, `sae`, is what is fitted, saved and read: its inputs are the models' vectors
    side by side, and its rows those of all models. What is said of rows here is said where every
    model's vectors have the mean square of the first's (`balance`), so that norms of two models can
    be compared; `directions` are the rows in each model's own unit.

    Args:
        sae: A dictionary with a `crosscoder` in its config, fitted or not.

    Raises:
        ConfigError: It is one over a single model.

    Source:
        Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing"; Minder
        et al. 2025, arXiv:2504.02922. For what is different see `layout.SideBySide`.

    Example:
        >>> from sae.dictionary import CrosscoderConfig, SaeConfig, TopKConfig
        >>> two = CrosscoderConfig(n_models=2)
        >>> crosscoder = Crosscoder(Sae(SaeConfig(4, 8, TopKConfig(k=1), crosscoder=two)))
        >>> z = crosscoder.encode([torch.ones(3, 2), torch.ones(3, 2)])
        >>> z.shape, crosscoder.decode(z).shape
        (torch.Size([3, 8]), torch.Size([3, 2, 2]))
    """

    def __init__(self, sae: Sae) -> None:
        if not isinstance(sae.layout, SideBySide):
            do = "give one whose config has a crosscoder"
            raise ConfigError("a crosscoder", "a dictionary over one model", do)
        self.sae, self._layout = sae, sae.layout

    @property
    def n_models(self) -> int:
        """Number of models."""
        return self._layout.config.n_models

    @property
    def d_model(self) -> int:
        """Width of one model's vectors."""
        return self._layout.d_model

    def encode(self, x: Several) -> Float[Tensor, "n d_sae"]:
        """Latent activations, one set for all models.

        Args:
            x: Residual vectors of each model at the same real tokens; unit: activation.

        Returns:
            Norm-weighted latents, at least 0; unit: activation of the first model times the
            dictionary's `input_scale` (1 once folded); of another library's file, as it has it.

        Raises:
            InputError: The models differ in tokens or width, or a BatchTopK dictionary outside
                training has no threshold yet.
        """
        return self.sae.encode(self._together(x))

    def encode_sparse(self, x: Several) -> Latents:
        """What `encode` gives with the zeros left out, at no n d_sae of memory.

        Args:
            x: As for `encode`.

        Raises:
            InputError: As `encode`.
        """
        return self.sae.encode_sparse(self._together(x))

    def decode(self, z: Float[Tensor, "n d_sae"] | Latents) -> Float[Tensor, "n n_models d_model"]:
        """Reconstructions of every model from latents.

        Args:
            z: Latents from `encode` or `encode_sparse`.

        Returns:
            Unit: activation of each model.
        """
        sparse = isinstance(z, Latents)
        x_hat = self.sae.decode_sparse(z)[-1] if sparse else self.sae.decode(z)
        return self._layout.blocks(x_hat)

    @property
    def rows(self) -> Float[Tensor, "n_models d_sae d_model"]:
        """Decoder rows of each model, in balanced space; a view."""
        return self._layout.blocks(self.sae.W_dec.detach()).transpose(0, 1)

    @property
    def directions(self) -> Float[Tensor, "n_models d_sae d_model"]:
        """What a latent of 1 adds to each model's vectors; unit: that model's activation."""
        return self.rows / self._layout.scale(self.sae.input_scale, self.rows.dtype).view(
            self.n_models, 1, self.d_model
        )

    @property
    def decoder_norms(self) -> Float[Tensor, "n_models d_sae"]:
        """Norm of each latent's row in each model, in balanced space; over models they sum to 1."""
        return self.rows.norm(dim=-1)

    @property
    def relative_norms(self) -> Float[Tensor, "n_models d_sae"]:
        """Each model's share of a latent's norms, in [0, 1]: of two models, 0.5 is shared alike.

        The first row is Lindsey et al.'s r_i: 1 for a latent of the first model alone, 0 for one of
        the second. Minder et al.'s difference is its `1 - r / (2 - 2 r)` where r is at most 0.5,
        else `(1 - r) / (2 r)`, and 1 for the second model alone.

        Example:
            >>> from sae.dictionary import CrosscoderConfig, SaeConfig, TopKConfig
            >>> alone = CrosscoderConfig(n_models=2, n_own=(1, 1))
            >>> sae = Sae(SaeConfig(4, 3, TopKConfig(k=1), crosscoder=alone))
            >>> Crosscoder(sae).relative_norms.tolist()
            [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]
        """
        norms = self.decoder_norms
        return norms / norms.sum(0).clamp_min(1e-12)

    def cosines(self, first: int = 0, second: int = 1) -> Float[Tensor, " d_sae"]:
        """Cosine between each latent's rows in two models, whose balance makes no difference.

        Args:
            first: Number of a model.
            second: Number of another.

        Returns:
            In [-1, 1]; NaN where a row is 0, which has no direction.
        """
        one, other = self.rows[first], self.rows[second]
        return (one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))

    def fvu_update(self, x: Several) -> tuple[FvuSums, ...]:
        """Sums for the fraction of variance unexplained, one for every model.

        Args:
            x: As for `encode`.

        Returns:
            Sums over these tokens; each is for `metrics.fvu_compute`, and those of batches add up.

        Raises:
            InputError: As `encode`.
        """
        together = self._together(x)
        with torch.no_grad():
            x_hat = self.sae.decode_sparse(self.sae.encode_sparse(together))[-1]
        return tuple(map(fvu_update, self.apart(together), self.apart(x_hat)))

    def apart(self, x: Float[Tensor, "n d_in"]) -> tuple[Float[Tensor, "n d_model"], ...]:
        """The vectors of each model, from vectors side by side; views.

        Args:
            x: What the dictionary itself takes or gives.
        """
        return self._layout.blocks(x).unbind(1)

    def _together(self, x: Several) -> Float[Tensor, "n d_in"]:
        together = side_by_side(x)
        if together.shape[1] != self.sae.config.d_in:
            found = f"{together.shape[1]} numbers a token"
            asked = f"vectors of {self.n_models} models of width {self.d_model}"
            raise InputError(asked, found, "give those it was fitted on, in their order")
        return together
