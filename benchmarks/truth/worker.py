"""What every contestant of `bench_truth` is asked, and what it gives back.

Runs in each contestant's own environment, so it needs torch, numpy and safetensors alone. A
contestant fits on the batches of a file and leaves a safetensors file: `W_dec` and `b_dec` in the
unit of the activations, and its latents on held-out tokens as its own code encodes them, so that
nobody's encoder is written a second time here.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

__all__ = ["Asked", "Fitted", "asked", "leave"]

ENCODED_AT_A_TIME = 2048


@dataclass(frozen=True)
class Asked:
    """A dictionary to fit; what all contestants have in common."""

    kind: str
    d_in: int
    d_sae: int
    k: int
    batch: int
    prefixes: tuple[int, ...]
    """Sizes of nested dictionaries below d_sae, for kinds that nest."""
    dead_after_tokens: int
    """Tokens of silence after which a latent is dead while it is fitted."""
    lr: float | None
    """Peak learning rate; None is the library's own."""
    seed: int
    """Of what the contestant draws, and of the order of the batches."""
    data: str
    """Activations to fit on, an npy file."""
    held_out: str
    """Activations to encode, an npy file."""
    out: str
    """The file to leave."""

    @property
    def n_tokens(self) -> int:
        """Tokens to fit on: those of whole batches, each seen once."""
        return len(np.load(self.data, mmap_mode="r")) // self.batch * self.batch

    def batches(self) -> Iterator[torch.Tensor]:
        """Batches `[batch, d_in]` in the order of the seed, then again from its beginning."""
        x = np.load(self.data, mmap_mode="r")
        order = np.random.default_rng(self.seed).permutation(self.n_tokens // self.batch)
        while True:
            for number in order:
                rows = x[number * self.batch : (number + 1) * self.batch]
                yield torch.from_numpy(np.array(rows))


@dataclass(frozen=True)
class Fitted:
    """A dictionary after its fit."""

    W_dec: torch.Tensor
    """Directions `[d_sae, d_in]`, of any norm."""
    b_dec: torch.Tensor
    """What is added `[d_in]`; unit: activation."""
    encode: Callable[[torch.Tensor], torch.Tensor]
    """From `[n, d_in]` to latents `[n, d_sae]`, which times `W_dec` are in activation units."""
    settings: dict[str, Any]
    """The library's own settings, for the record."""


def asked() -> Asked:
    """What the command line asks for, as JSON; torch is set up for it."""
    values = json.loads(sys.argv[1])
    torch.set_num_threads(values.pop("threads"))
    torch.manual_seed(values["seed"])
    return Asked(**{**values, "prefixes": tuple(values["prefixes"])})


@torch.no_grad()
def leave(asked: Asked, fitted: Fitted) -> None:
    """Encodes the held-out tokens and writes the file.

    Args:
        asked: The task.
        fitted: What came of it.
    """
    x = torch.from_numpy(np.load(asked.held_out))
    tokens, latents, values = [], [], []
    for first in range(0, len(x), ENCODED_AT_A_TIME):
        z = fitted.encode(x[first : first + ENCODED_AT_A_TIME])
        token, latent = (z > 0).nonzero(as_tuple=True)
        tokens.append((token + first).int())
        latents.append(latent.int())
        values.append(z[token, latent].float())
    tensors = {
        "W_dec": fitted.W_dec.detach().float().contiguous().clone(),
        "b_dec": fitted.b_dec.detach().float().contiguous().clone(),
        "token": torch.cat(tokens),
        "latent": torch.cat(latents),
        "value": torch.cat(values),
    }
    save_file(tensors, asked.out, metadata={"settings": json.dumps(fitted.settings)})
