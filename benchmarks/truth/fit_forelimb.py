"""A dictionary of this project, fitted as `training.loop.fit` fits it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import torch

from benchmarks.truth.worker import Asked, Fitted, asked, leave
from sae.dictionary import BatchTopKConfig, Sae, SaeConfig, SparsityConfig, TopKConfig, initialise_
from training.loop import fit
from training.recipes import default

__all__ = ["KINDS", "Kind"]

SAMPLE_TOKENS = 8192


@dataclass(frozen=True)
class Kind:
    """A kind of dictionary that takes part."""

    sparsity: Callable[[int], SparsityConfig] | None = None
    """From the fires a token that are wanted to the sparsity; None is the default recipe's."""
    is_nested: bool = False
    """Whether it has the prefixes that everyone's nested kinds have."""
    train: dict[str, Any] = field(default_factory=dict)
    """What its source sets otherwise than the default recipe does, fields of `TrainConfig`."""


KINDS: dict[str, Kind] = {
    "topk": Kind(TopKConfig),
    "batch_topk": Kind(BatchTopKConfig),
    "default": Kind(is_nested=True),
}
"""Who takes part; a further kind joins by a line."""


def fitted(task: Asked) -> Fitted:
    """The default recipe with the shape, the budget and the sparsity that were asked for.

    Args:
        task: What to fit.
    """
    kind = KINDS[task.kind]
    shape, run = default(task.d_in, task.seed)
    shape = replace(
        shape,
        d_sae=task.d_sae,
        sparsity=kind.sparsity(task.k) if kind.sparsity else _of(shape, task.k),
        prefixes=task.prefixes if kind.is_nested else (),
    )
    run = replace(
        run,
        n_tokens=task.n_tokens,
        batch_tokens=task.batch,
        dead_after_tokens=task.dead_after_tokens,
        **kind.train | ({} if task.lr is None else {"lr": task.lr}),
    )
    sae = Sae(shape)
    n_first = -(-SAMPLE_TOKENS // task.batch)
    initialise_(sae, torch.cat(list(islice(task.batches(), n_first))), task.seed)
    rate = 0.0
    for record in fit(sae, task.batches(), run):
        rate = max(rate, record.metrics["lr"])
    settings = {"peak_lr": rate, "train": run.to_dict(), "prefixes": list(shape.prefixes)}
    settings["sparsity"] = asdict(shape.sparsity)
    done = sae.folded().eval()
    return Fitted(done.W_dec, done.b_dec, lambda x: done.encode_sparse(x).dense(), settings)


def _of(shape: SaeConfig, k: int) -> SparsityConfig:
    assert isinstance(shape.sparsity, BatchTopKConfig)
    return replace(shape.sparsity, k=k)


if __name__ == "__main__":
    given = asked()
    leave(given, fitted(given))
