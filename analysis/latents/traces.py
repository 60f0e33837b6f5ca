"""The same tokens through base and tuned model, as sums and counts per latent, context and role.

Rates are never stored: whoever needs one divides, and whoever needs an interval resamples sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from analysis.latents.readings import Reading
from analysis.statistics.intervals import Blocks
from analysis.statistics.matrices import fires, shape
from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["Firing", "Sums", "firing", "latents", "reconstructed", "roles", "sums", "trace"]

ROLE_OF_TEMPLATE = "template"


@dataclass(frozen=True)
class Firing:
    """One dictionary's latents on one model's tokens, with what refits its decoder by one step."""

    z: sparse.csr_array
    """Latents [n_tokens, d_sae] in activation units: times the norm of their decoder row."""
    rows: Float[np.ndarray, " d_sae d_in"]
    """Decoder rows, each of norm 1."""
    residual_moments: Float[np.ndarray, " n_blocks d_sae d_in"] | None = None
    """Sum of z (x - x_hat) over each block."""
    reading: Reading | None = None
    """What the latents read where they are silent; where absent, they are taken to read 0."""
    index: Int[np.ndarray, " d_sae"] | None = None
    """Where each is in its dictionary, once they are in another order."""

    def __post_init__(self) -> None:
        if shape(self.z)[1] != len(self.rows):
            raise InputError(
                "latents and decoder rows of one dictionary",
                f"{shape(self.z)[1]} latents and {len(self.rows)} rows",
                "take both from the same dictionary",
            )

    def of(self, order: Int[np.ndarray, " d_sae"]) -> "Firing":
        """The same latents in another order."""
        moments, reading = self.residual_moments, self.reading
        return Firing(
            sparse.csr_array(self.z[:, order]),
            self.rows[order],
            None if moments is None else moments[:, order],
            None if reading is None else reading.of(order),
            order if self.index is None else self.index[order],
        )


@dataclass(frozen=True)
class Sums:
    """Sums over groups of tokens, for each latent shared by two dictionaries."""

    n_tokens: Float[np.ndarray, " groups"]
    """Tokens."""
    n_fires_base: Float[np.ndarray, "groups latents"]
    """Tokens on which the latent fires in the base model."""
    n_fires_tuned: Float[np.ndarray, "groups latents"]
    """Tokens on which it fires in the tuned model."""
    n_fires_both: Float[np.ndarray, "groups latents"]
    """Tokens on which it fires in both."""
    sum_z_base: Float[np.ndarray, "groups latents"]
    """Sum of z in the base model; unit: activation."""
    sum_z_tuned: Float[np.ndarray, "groups latents"]
    """Sum of z in the tuned model."""
    sum_z_both_base: Float[np.ndarray, "groups latents"]
    """Sum of the base model's z where both fire."""
    sum_z_both_tuned: Float[np.ndarray, "groups latents"]
    """Sum of the tuned model's z where both fire."""


@torch.no_grad()
def _latents(sae: Sae, x: Float[Tensor, "n d_in"]) -> sparse.csr_array:
    """Latents of a chunk in activation units."""
    kept = sae.encode_sparse(x)
    scale = sae.W_dec.norm(dim=-1) / sae.input_scale
    parts = kept.value * scale[kept.index], kept.index.int(), kept.starts.int()
    values, latent, starts = (each.cpu().numpy() for each in parts)
    z = sparse.csr_array((values.astype(np.float32), latent, starts), (len(kept), kept.d_sae))
    z.sort_indices()
    return z


@torch.no_grad()
def _decoder(sae: Sae) -> tuple[np.ndarray, np.ndarray]:
    """Decoder rows of norm 1, and what is reconstructed where nothing fires."""
    rows = torch.nn.functional.normalize(sae.W_dec.float(), dim=-1)
    return rows.cpu().numpy(), (sae.b_dec / sae.input_scale).float().cpu().numpy()


def reconstructed(sae: Sae, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
    """What a dictionary makes of residual vectors, at the cost of the latents that fire.

    Args:
        sae: A dictionary in evaluation mode.
        x: Residual vectors.

    Returns:
        `sae.decode(sae.encode(x))`, up to rounding, on the CPU.
    """
    rows, silent = _decoder(sae)
    return torch.from_numpy(_latents(sae, x) @ rows + silent)


def latents(sae: Sae, x: Float[Tensor, "n d_in"]) -> sparse.csr_array:
    """Latents of residual vectors, in activation units.

    Args:
        sae: A dictionary in evaluation mode.
        x: Residual vectors.

    Returns:
        z times the norm of the decoder row, [n, d_sae], zeros left out.
    """
    return _latents(sae, x)


def firing(
    sae: Sae, chunks: Iterable[Float[Tensor, "_ d_in"]], blocks: Blocks | None = None
) -> Firing:
    """Latents of a whole token table, one chunk of residual vectors at a time.

    Args:
        sae: A dictionary; it is put into evaluation mode.
        chunks: Residual vectors in the order of the token table.
        blocks: Resampling block of every token; where given, the moments that put an interval on
            directions are summed too.

    Returns:
        The firing.

    Raises:
        InputError: The chunks do not hold as many tokens as the blocks.
    """
    sae.eval()
    rows, silent = _decoder(sae)
    parts, left = [], []
    for x in chunks:
        parts.append(_latents(sae, x))
        if blocks is not None:
            left.append(x.float().cpu().numpy() - silent - parts[-1] @ rows)
    n = sum(shape(part)[0] for part in parts)
    if not parts or (blocks is not None and n != len(blocks.of_token)):
        raise InputError(
            "one residual vector for every token",
            f"{n} vectors for {len(blocks.of_token) if blocks else 'some'} tokens",
            "pass the chunks that belong to this token table, whole and once",
        )
    z = sparse.csr_array(sparse.vstack(parts, format="csr"))
    return Firing(z, rows, _moments(z, np.concatenate(left), blocks) if blocks else None)


def _moments(z: sparse.csr_array, left: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Sum of z times what is left of x, over each block."""
    n, d_sae = shape(z)
    block = np.repeat(blocks.of_token, np.diff(z.indptr))
    place = block * d_sae + z.indices, np.repeat(np.arange(n), np.diff(z.indptr))
    by_block = sparse.csr_array((z.data, place), (blocks.n_blocks * d_sae, n))
    return (by_block @ left).reshape(blocks.n_blocks, d_sae, -1)


def _both(base: Firing, tuned: Firing) -> tuple[sparse.csr_array, ...]:
    if shape(base.z)[0] != shape(tuned.z)[0]:
        raise InputError(
            "the same tokens through both models",
            f"{shape(base.z)[0]} and {shape(tuned.z)[0]} tokens",
            "run both models on one token table",
        )
    n = min(shape(base.z)[1], shape(tuned.z)[1])
    return sparse.csr_array(base.z[:, :n]), sparse.csr_array(tuned.z[:, :n])


def sums(base: Firing, tuned: Firing, groups: sparse.csr_array) -> Sums:
    """Sum the firing of both models over groups of tokens.

    Args:
        base: Firing in the base model.
        tuned: Firing in the tuned model on the same tokens; latents are matched by index, which is
            meaningful for those both dictionaries inherited. Later ones are left out.
        groups: Indicator [n_groups, n_tokens].

    Returns:
        The sums.

    Raises:
        InputError: The two firings differ in their number of tokens.
    """
    z_base, z_tuned = _both(base, tuned)
    fires_base, fires_tuned = fires(z_base), fires(z_tuned)
    parts = (
        fires_base,
        fires_tuned,
        fires_base.multiply(fires_tuned),
        z_base,
        z_tuned,
        z_base.multiply(fires_tuned),
        z_tuned.multiply(fires_base),
    )
    exact = sparse.csr_array(groups, dtype=np.float64)
    counts = np.asarray(exact.sum(axis=1)).ravel()
    return Sums(counts, *[sparse.csr_array(exact @ part).toarray() for part in parts])


def roles(tokens: pd.DataFrame) -> pd.Series:
    """The role of every token; template tokens are a role of their own.

    Args:
        tokens: Token table with `role`, and `is_template` where it is known.
    """
    role = pd.Series(tokens["role"].astype(str))
    if "is_template" not in tokens:
        return role
    return role.mask(tokens["is_template"].fillna(False).astype(bool), ROLE_OF_TEMPLATE)


def trace(base: Firing, tuned: Firing, tokens: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table `traces.parquet` of one tuned model: sums and counts, never rates.

    Args:
        base: Firing in the base model.
        tuned: Firing in the tuned model on the same tokens.
        tokens: Token table with `context` and `role`; template tokens are a role of their own.
        name: Name of the tuned model.

    Returns:
        One row a latent, context and role: tuned, latent, context, role, n_tokens, n_fires_base,
        n_fires_tuned, n_fires_both, sum_z_base, sum_z_tuned, sum_z_both_base, sum_z_both_tuned.
    """
    keys = pd.DataFrame({"context": tokens["context"].astype(str), "role": roles(tokens)})
    grouped = keys.groupby(["context", "role"], sort=True)
    n, group = len(tokens), grouped.ngroup().to_numpy()
    cells = keys.drop_duplicates().sort_values(["context", "role"]).reset_index(drop=True)
    found = sums(
        base, tuned, sparse.csr_array((np.ones(n), (group, np.arange(n))), (len(cells), n))
    )
    n_latents = found.n_fires_base.shape[1]
    table = cells.loc[np.repeat(np.arange(len(cells)), n_latents)].reset_index(drop=True)
    table.insert(0, "latent", np.tile(np.arange(n_latents), len(cells)))
    table.insert(0, "tuned", name)
    table["n_tokens"] = np.repeat(found.n_tokens, n_latents).astype(np.int64)
    for column in list(Sums.__dataclass_fields__)[1:]:
        values = getattr(found, column).ravel()
        table[column] = values.astype(np.int64) if column.startswith("n_") else values
    return table
