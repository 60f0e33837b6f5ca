"""What KL(base || tuned) comes from: the tuned model's residual vectors are given back to the base.

Part after part of the difference at the hook is taken from the tuned model's residual vectors, and
its predictions come nearer to the base model's; what is left once all is taken comes of the layers
above. Where parts overlap their order matters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor
from torch.nn.functional import log_softmax

from analysis.latents.bench import ModelBench
from analysis.latents.traces import Firing, latents
from analysis.statistics.intervals import Blocks, bounds
from sae.dictionary.sae import Sae
from sae.stream.activations import activations, logits, logits_with, padded
from sae.stream.model import LanguageModel

__all__ = ["PARTS", "Side", "kl_of_groups", "kl_shares"]

PARTS = (
    "mean_shift",
    "re_weighting",
    "rotation",
    "novel_in_span",
    "novel_out_of_span",
    "added_latents",
    "dictionary_error",
)
"""What is taken, in this order."""
ABOVE = "layers_above"
DOCUMENTS, DOCUMENTS_A_PASS = 128, 16


@dataclass(frozen=True, eq=False)
class Side:
    """A model, the dictionary continued on it, and what that made of its held-out tokens."""

    model: LanguageModel
    """The model."""
    dictionary: Sae
    """The dictionary."""
    firing: Firing
    """Its latents on the bench's tokens."""
    x: Float[np.ndarray, "n d_in"]
    """The residual vectors of these."""

    def latents(self, x: Float[Tensor, "n d_in"]) -> sparse.csr_array:
        """Latents of other residual vectors, in the order of `firing`.

        Args:
            x: Of the model.
        """
        z, index = latents(self.dictionary, x), self.firing.index
        return z if index is None else sparse.csr_array(z[:, index])


def kl_shares(
    bench: ModelBench,
    base: Side,
    tuned: Side,
    n_inherited: int,
    novel: Mapping[str, Int[np.ndarray, " _"]],
) -> pd.DataFrame:
    """How much of KL(base || tuned) each part of the difference at the hook accounts for.

    Parts are `mean_shift`: the mean of what no latent accounts for; `re_weighting`: inherited
    latents' other activations, along the base's decoder rows; `rotation`: their other rows;
    `novel_in_span` and `novel_out_of_span`; `added_latents`: those that neither are inherited nor
    count as novel; and `dictionary_error`: what else the dictionaries do not explain, with all of
    the difference at special tokens and outliers. `layers_above` is what is left. Predictions
    after counted tokens of 128 documents, evenly spaced, count.

    Args:
        bench: Held-out tokens.
        base: The base model, with the dictionary continued on its own activations.
        tuned: The tuned model, with the dictionary continued on it.
        n_inherited: Latents that both dictionaries continue.
        novel: Latents of the tuned dictionary by fate, `novel_in_span` and `novel_out_of_span`.

    Returns:
        One row a part, in the order in which they are taken, and last `layers_above`: part, kl
        (nats a token that taking it saves, after those before it), and share of all of KL with
        share_low and share_high (95 %, over documents); the shares add up to 1, and are not
        numbers where the models predict the same.
    """
    split = _Split(base, tuned, n_inherited, novel)

    def taken(
        x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], counted: Bool[Tensor, " n"]
    ) -> list[Float[Tensor, "n d"]]:
        parts = split.parts(x, y, counted)
        return [torch.zeros_like(parts[0]), *accumulate(parts)]

    return _table(*_summed(bench, (base, tuned), taken, 1 + len(PARTS)), bench)


def kl_of_groups(
    bench: ModelBench,
    base: Side,
    tuned: Side,
    groups: Sequence[Int[np.ndarray, " _"]],
) -> tuple[Float[np.ndarray, " groups"], Float[np.ndarray, "resamples groups"]]:
    """Share of KL(base || tuned) that re-weighting some inherited latents alone accounts for.

    Args:
        bench: This and the next two as for `kl_shares`.
        base: The base model.
        tuned: The tuned one; what other activations add along the base's rows is taken from it.
        groups: Latents by index, each group on its own.

    Returns:
        The shares, and the same in every resample of the documents; not numbers where the models
        predict the same.
    """
    rows = base.firing.rows

    def taken(
        x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_in"], counted: Bool[Tensor, " n"]
    ) -> list[Float[Tensor, "n d_in"]]:
        after, before = tuned.latents(y[counted]), base.latents(x[counted])
        out = [torch.zeros_like(x) for _ in range(1 + len(groups))]
        for each, group in zip(out[1:], groups, strict=True):
            moved = (after[:, group] - before[:, group]) @ rows[group]
            each[counted] = torch.from_numpy(moved.astype(np.float32))
        return out

    sums, _ = _summed(bench, (base, tuned), taken, 1 + len(groups))
    whole = np.ones((1, len(sums)))
    point, drawn = (w @ sums for w in (whole, bench.weights))
    shares = [_over(each[:, :1] - each[:, 1:], each[:, :1]) for each in (point, drawn)]
    return shares[0][0], shares[1]


Vectors = Float[Tensor, "n d_in"]
Taken = Callable[[Vectors, Vectors, Bool[Tensor, " n"]], list[Vectors]]
"""From vectors of the base and of the tuned model, and which count, to what is taken from the
tuned model's, one attempt after another."""


def _summed(
    bench: ModelBench, sides: tuple[Side, Side], taken: Taken, n: int
) -> tuple[Float[np.ndarray, "blocks n"], int]:
    """KL at counted tokens of the documents, summed over blocks, for each of n attempts."""
    base, tuned = sides
    starts = bench.text.starts
    documents = np.unique(np.linspace(0, len(starts) - 2, DOCUMENTS).round().astype(int))
    sums, n_tokens = np.zeros((bench.blocks.n_blocks, n)), 0
    for first in range(0, len(documents), DOCUMENTS_A_PASS):
        batch = documents[first : first + DOCUMENTS_A_PASS].tolist()
        counted = [bench.counted[starts[i] : starts[i + 1]] for i in batch]
        kept = [i for i, each in zip(batch, counted, strict=True) if each.any()]
        if not kept:
            continue
        keep = np.concatenate([each for each in counted if each.any()])
        found = np.stack(list(_divergences(bench, base, tuned, taken, kept, keep)), axis=1)
        rows = np.concatenate([np.arange(int(starts[i]), int(starts[i + 1])) for i in kept])[keep]
        block = bench.blocks.of_token[np.cumsum(bench.counted)[rows] - 1]
        sums += Blocks(block, len(sums)).sums(found)
        n_tokens += len(found)
    return sums, n_tokens


def _table(sums: np.ndarray, n_tokens: int, bench: ModelBench) -> pd.DataFrame:
    whole = np.ones((1, len(sums)))
    (kl, _), (_, drawn) = (_taken(w @ sums) for w in (whole, bench.weights))
    share = _over(kl[0], kl[0].sum(keepdims=True))
    low, high = bounds(drawn, bench.blocks.n_blocks)
    return pd.DataFrame(
        {
            "part": [*PARTS, ABOVE],
            "kl": kl[0] / n_tokens,
            "share": share,
            "share_low": low,
            "share_high": high,
        }
    )


def _taken(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each part saves after those before it, and the same as a share."""
    kl = np.concatenate([sums[:, :-1] - sums[:, 1:], sums[:, -1:]], axis=1)
    return kl, _over(kl, sums[:, :1])


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Not a number where there is no KL to have a share of."""
    out = np.full(np.shape(part), np.nan)
    return np.divide(part, whole, out=out, where=np.broadcast_to(whole, out.shape) > 0)


@torch.no_grad()
def _divergences(
    bench: ModelBench,
    base: Side,
    tuned: Side,
    taken: Taken,
    documents: list[int],
    keep: np.ndarray,
) -> Iterator[Float[np.ndarray, " counted"]]:
    """KL(base || tuned) at every counted token, for every attempt."""
    ids, mask = padded([bench.text.ids[i] for i in documents])
    counted = torch.from_numpy(keep)
    x, y = (
        activations(one.model, ids, mask, [bench.hook])[bench.hook][mask.to(one.model.device)]
        for one in (base, tuned)
    )
    before = _log_p(logits(base.model, ids, mask), mask, counted)
    for each in taken(x.float().cpu(), y.float().cpu(), counted):

        def less(
            z: Float[Tensor, "b p d"], each: Float[Tensor, "n d"] = each
        ) -> Float[Tensor, "b p d"]:
            out = z.clone()
            out[mask.to(z.device)] -= each.to(z)
            return out

        after = _log_p(logits_with(tuned.model, ids, mask, bench.hook, less), mask, counted)
        yield (before.exp() * (before - after)).sum(-1).numpy()


def _log_p(
    scores: Float[Tensor, "b p v"], mask: Bool[Tensor, "b p"], counted: Bool[Tensor, " n"]
) -> Float[Tensor, "counted v"]:
    return log_softmax(scores[mask.to(scores.device)].cpu()[counted].double(), -1)


class _Split:
    """The difference of two residual vectors as a sum of parts."""

    def __init__(
        self,
        base: Side,
        tuned: Side,
        n: int,
        novel: Mapping[str, Int[np.ndarray, " _"]],
    ) -> None:
        self.base, self.tuned = base, tuned
        before, after = base.firing.rows, tuned.firing.rows
        new = [np.asarray(novel.get(name, ()), int) for name in PARTS[3:5]]
        is_new = np.zeros(len(after), bool)
        is_new[np.concatenate(new)] = True
        old = (np.arange(len(after)) < n) & ~is_new
        rest = (np.arange(len(after)) >= n) & ~is_new
        added = np.arange(len(before)) >= n
        common = np.zeros_like(after)
        common[:n] = before[:n]
        # For each part the rows that the tuned and the base model's latents stand for in it.
        self.rows = {
            "re_weighting": (_only(common, old), _only(before, ~added)),
            "rotation": (_only(after - common, old), None),
            "novel_in_span": (_only(after, _among(new[0], len(after))), None),
            "novel_out_of_span": (_only(after, _among(new[1], len(after))), None),
            "added_latents": (_only(after, rest), _only(before, added)),
        }
        means = [np.asarray(one.firing.z.mean(axis=0)).ravel() for one in (tuned, base)]
        explained = sum(self._of(name, *(m[None] for m in means))[0] for name in self.rows)
        self.shift = (tuned.x.mean(axis=0) - base.x.mean(axis=0) - explained).astype(np.float32)

    def _of(self, name: str, z: sparse.csr_array | np.ndarray, z_base: object) -> np.ndarray:
        plus, minus = self.rows[name]
        return z @ plus if minus is None else z @ plus - z_base @ minus

    def parts(
        self,
        x: Float[Tensor, "n d_in"],
        y: Float[Tensor, "n d_in"],
        counted: Bool[Tensor, " n"],
    ) -> list[Float[Tensor, "n d_in"]]:
        """The parts of y - x, in the order of `PARTS`."""
        z, z_base = self.tuned.latents(y[counted]), self.base.latents(x[counted])
        found = [torch.from_numpy(np.tile(self.shift, (int(counted.sum()), 1)))]
        for name in self.rows:
            found.append(torch.from_numpy(self._of(name, z, z_base).astype(np.float32)))
        out = [torch.zeros_like(x) for _ in found]
        for whole, each in zip(out, found, strict=True):
            whole[counted] = each
        return [*out, y - x - torch.stack(out).sum(0)]


def _only(rows: np.ndarray, which: np.ndarray) -> np.ndarray:
    return np.where(which[:, None], rows, 0).astype(np.float32)


def _among(index: np.ndarray, n: int) -> np.ndarray:
    return np.isin(np.arange(n), index)
