"""Learning rates as functions of the tokens seen."""

from training.config import TrainConfig

__all__ = ["rate_factor"]


def rate_factor(n_tokens: float | int, config: TrainConfig) -> float:
    """Share of the peak rate in force once `n_tokens` were seen, in [0, 1].

    Rises linearly from 0 over the first `config.warmup` of the run and falls linearly to 0 over
    the last `config.decay`. Where the two overlap the smaller holds. The loop asks at the middle
    of a step's batch, so that neither its first nor its last step is wasted on a rate of 0.

    Args:
        n_tokens: Tokens seen, 0 or more; beyond `config.n_tokens` the factor is 0.
        config: The run.

    Returns:
        A dimensionless factor for `config.lr`.

    Example:
        >>> run = TrainConfig(n_tokens=1000, warmup=0.1, decay=0.2)
        >>> [rate_factor(n, run) for n in (0, 50, 100, 800, 900, 1000, 2000)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    warmup, decay = config.warmup * config.n_tokens, config.decay * config.n_tokens
    rising = n_tokens / warmup if warmup else 1.0
    falling = (config.n_tokens - n_tokens) / decay if decay else float(n_tokens < config.n_tokens)
    return max(0.0, min(1.0, rising, falling))
