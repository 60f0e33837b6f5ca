"""How soon something is learned: the loss above the least possible, over the first of a training.

Source: excess description length (arXiv:2601.04728), the nats that a learner pays for text beyond
those that who knows its law must pay, here a token of held-out text instead of the text trained on.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats
from transformers import PreTrainedModel

from training.organism.language_model import LmStep
from training.organism.losses import Batch, document_losses

__all__ = ["Learning"]

POINTS = (64, 32, 16, 8, 4)  # parts of a training after which the loss is measured, besides 0


class Learning:
    """Measures a model's loss as it is trained.

    Args:
        module: The model, which is trained in place.
        held_out: At least two documents of which anything is scored.
        n_steps: Steps of its training.
    """

    def __init__(self, module: PreTrainedModel, held_out: Sequence[Batch], n_steps: int) -> None:
        self.module, self.held_out = module, held_out
        self.due = sorted({max(1, n_steps // part) for part in POINTS})
        self.curve = [(0, document_losses(module, held_out))]

    def along(self, steps: Iterator[LmStep]) -> Iterator[LmStep]:
        """The same steps; at some of them the loss is measured.

        Args:
            steps: The training.
        """
        for step in steps:
            if step.step in self.due:
                self.curve.append((step.step, document_losses(self.module, self.held_out)))
            yield step

    def excess(self, least: float) -> dict[str, float]:
        """Mean loss over the first quarter of the training, above the least possible.

        Args:
            least: Loss of an observer who knows what is to be learned; unit: nats a token.

        Returns:
            value, low, high: by the trapezoid rule, with Student's 95 % interval over documents
            (the delta method); unit: nats a token. The least loss counts as known, so that the
            interval is that of the mean loss, wider than need be.
        """
        at = np.array([step for step, _ in self.curve], float)
        losses = np.stack([each[:, 0] for _, each in self.curve])
        n = self.curve[0][1][:, 1]
        mean = np.trapezoid(losses, at, axis=0) / at[-1]
        value = mean.sum() / n.sum()
        off = (mean - value * n) / n.mean()
        reach = stats.t.ppf(0.975, len(n) - 1) * off.std(ddof=1) / len(n) ** 0.5
        value -= least
        return {"value": float(value), "low": float(value - reach), "high": float(value + reach)}
