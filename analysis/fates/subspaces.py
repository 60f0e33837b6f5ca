"""What became of unstable latents together: of the subspace that they span.

Latents that another run would make differently still span much the same directions (arXiv
2606.12138). So they are judged as one: by what both models have in that subspace at the tokens on
which any of them fires, beside what one more run of the null would have there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, stats

from analysis.fates.rule import Rule
from analysis.latents.bench import Bench
from analysis.latents.traces import Firing
from analysis.personas.span import persona_span
from analysis.statistics.intervals import Interval, interval
from analysis.statistics.matrices import fires

__all__ = ["Subspace", "judge_subspace", "told"]

LEAST_LATENTS = 2
LEAST_NULLS = 2
LEVEL = 0.975  # share of further nulls within either end


@dataclass(frozen=True)
class Subspace:
    """The subspace of a tuned model's unstable latents, in the base model and in this one."""

    n_latents: int
    """Unstable latents."""
    rank: int
    """Dimensions: the fewest that hold 90 % of their decoder rows' energy, as of the persona
    span."""
    agreement: Interval
    """Cosine of what the two models have there, over all tokens at once and less its mean: 1 the
    same, 0 nothing in common."""
    gain: Interval
    """Log ratio of the tuned model's root mean square there to the base's; unit: nats."""
    least_agreement: float
    """Above which 97.5 % of further nulls lie; not a number of fewer than two."""
    most_gain: float
    """Below which they lie, either way."""

    @property
    def fate(self) -> str:
        """As `told`."""
        return told(self.agreement, self.gain, (self.least_agreement, self.most_gain))


def told(agreement: Sequence[float], gain: Sequence[float], null: tuple[float, float]) -> str:
    """What became of a subspace.

    Args:
        agreement: Value, low and high.
        gain: Value, low and high.
        null: The least agreement and the most gain, either way, of its null.

    Returns:
        preserved where both intervals lie inside the null's range and within the limits of a
        latent's direction and gain (`Rule`), changed where one lies outside of the range, else
        undetermined.

    Example:
        >>> told((0.9, 0.8, 0.95), (0.0, -0.1, 0.1), (0.75, 0.2))
        'preserved'
    """
    (_, low, high), (_, weaker, stronger), (least, most) = agreement, gain, null
    rule, furthest = Rule(), max(-weaker, stronger)
    within = low >= rule.min_direction and furthest <= rule.max_gain
    if within and low >= least and furthest <= most:
        return "preserved"
    return "changed" if high < least or weaker > most or stronger < -most else "undetermined"


def judge_subspace(
    bench: Bench,
    continued: Firing,
    unstable: Int[np.ndarray, " m"],
    one: Float[np.ndarray, "n_tokens d_in"],
    nulls: Sequence[Float[np.ndarray, "n_tokens d_in"]],
) -> Subspace | None:
    """What became of the subspace of one tuned model's unstable latents.

    Other latents that overlap with the subspace count in all models alike. A null that moved less
    than the model did, what is constant left out, is stretched: what is missing from agreement
    grows with the square of the move, gain with the move. Of three nulls alike one lies
    beyond the two others in a third of cases, so the range is Student's for one more, of the
    logarithm of what is missing, and of gain about 0.

    Args:
        bench: Tokens, and the base model's vectors.
        continued: The dictionary continued on the base's own activations, on the base model.
        unstable: Which of its latents are unstable.
        one: The tuned model's vectors at the bench's tokens.
        nulls: Those of the checkpoints it is held against.

    Returns:
        What was found; None of fewer than two latents, where no null moved as far, or where they
        fire in too few documents.
    """
    if len(unstable) < LEAST_LATENTS or not nulls:
        return None
    basis = persona_span(continued.rows[unstable])
    there = np.diff(fires(sparse.csr_array(continued.z[:, unstable])).indptr) > 0
    if len(np.unique(bench.blocks.of_token[there])) < LEAST_LATENTS:
        return None
    base = _inside(bench.x, there, basis)
    agreement, gain = _both(bench, there, base, _inside(one, there, basis))
    far, missing, louder = _move(bench.x, one), [], []
    for x in nulls:
        by = max(far / max(_move(bench.x, x), 1e-12), 1.0)
        each = _both(bench, there, base, _inside(x, there, basis))
        missing.append(by**2 * (1 - each[0].value))
        louder.append(by * each[1].value)
    least, most = _one_more(np.array(missing), np.array(louder))
    return Subspace(len(unstable), len(basis), agreement, gain, least, most)


def _move(base: np.ndarray, x: np.ndarray) -> float:
    """How far vectors moved beside their constant shift: Frobenius norm."""
    return float(np.linalg.norm(x - base - (x - base).mean(axis=0)))


def _one_more(missing: np.ndarray, louder: np.ndarray) -> tuple[float, float]:
    """Least agreement and most gain of one more null, with a chance of 2.5 % each of being beyond.

    Not numbers of fewer than two, or where one was not measured: then nothing lies outside, and
    nothing inside.
    """
    n = len(missing)
    if n < LEAST_NULLS:
        return float("nan"), float("nan")
    logs = np.log(np.maximum(missing, 1e-12))
    beyond = logs.mean() + stats.t.ppf(LEVEL, n - 1) * (1 + 1 / n) ** 0.5 * logs.std(ddof=1)
    most = stats.t.ppf((1 + LEVEL) / 2, n) * (louder**2).mean() ** 0.5
    return float(1 - np.exp(beyond)), float(most)


def _inside(x: np.ndarray, there: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Vectors at some tokens, less their mean, within a subspace."""
    own = x[there] @ basis.T
    return own - own.mean(axis=0)


def _both(
    bench: Bench,
    there: np.ndarray,
    base: Float[np.ndarray, "n rank"],
    tuned: Float[np.ndarray, "n rank"],
) -> tuple[Interval, Interval]:
    """Agreement and gain, with their intervals over documents."""
    blocks = bench.blocks.select(there)
    pairs = ((base, tuned), (base, base), (tuned, tuned))
    sums = [blocks.sums(np.einsum("ij,ij->i", a, b).astype(float)) for a, b in pairs]
    n_used = len(np.unique(blocks.of_token))

    def of(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both, first, second = (w @ each for each in sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            return both / np.sqrt(first * second), np.log(second / first) / 2

    point, drawn = of(np.ones((1, blocks.n_blocks))), of(bench.weights)
    found = [interval(float(p[0]), each, n_used) for p, each in zip(point, drawn, strict=True)]
    return found[0], found[1]
