"""Documents of one pass with other residual vectors in place of some of the model's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.stream.activations import padded
from sae.stream.tokens import TokenizedText

__all__ = ["DocumentBatch", "document_batch", "placed"]


@dataclass(frozen=True, eq=False)
class DocumentBatch:
    """Documents side by side, padded on the right; on the CPU."""

    ids: Int[Tensor, "b p"]
    """Token ids."""
    mask: Bool[Tensor, "b p"]
    """Real tokens."""
    counted: Bool[Tensor, "b p"]
    """Real tokens that are not special."""

    @property
    def pairs(self) -> Bool[Tensor, "b q"]:
        """Tokens but the last of each row: those that count and are followed by one that does."""
        return self.counted[:, :-1] & self.counted[:, 1:]

    @property
    def successors(self) -> Int[Tensor, " n"]:
        """Id of the token after each of `pairs`."""
        return self.ids[:, 1:][self.pairs]

    def predictions(self, logits: Float[Tensor, "b p vocab"]) -> Float[Tensor, "n vocab"]:
        """Logits after each of `pairs`: the predictions that losses and KL are means over.

        Args:
            logits: Of a pass over this batch, on any device.
        """
        return logits[:, :-1][self.pairs.to(logits.device)]


def document_batch(text: TokenizedText, rows: Sequence[int]) -> DocumentBatch:
    """Some documents of a text as one batch.

    Args:
        text: The text.
        rows: Numbers of the documents, at least one, in any order.

    Returns:
        The batch, one row a document.
    """
    ids, mask = padded([text.ids[row] for row in rows])
    is_special = text.table["is_special"].to_numpy(dtype=bool)
    counted = torch.zeros_like(mask)
    counted[mask] = torch.cat(
        [torch.tensor(~is_special[text.starts[row] : text.starts[row + 1]]) for row in rows]
    )
    return DocumentBatch(ids, mask, counted)


def placed(
    x: Float[Tensor, "b p d_in"], where: Bool[Tensor, "b p"], rows: Float[Tensor, "n d_in"]
) -> Float[Tensor, "b p d_in"]:
    """A copy of `x` with other vectors at some places; differentiable.

    Args:
        x: Residual vectors.
        where: The places, n of them.
        rows: What is put there, in the order of the places; cast to the type of `x`.

    Returns:
        Residual vectors, those at other places bit for bit as they were.
    """
    y = x.clone()
    y[where] = rows.to(x)
    return y
