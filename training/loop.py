"""activations -> a fitted dictionary: the one loop, which yields and leaves every decision outside.

Logging, saving, evaluating and stopping are lines of the script that takes the records.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae.dictionary.losses import Loss, dictionary_loss
from sae.dictionary.metrics import (
    dead_compute,
    dead_update,
    fvu_compute,
    fvu_update,
    l0_compute,
    l0_update,
)
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError, NumericalError
from training.config import TrainConfig
from training.optim import adam, moments, restore_moments_, step_
from training.schedules import rate_factor
from training.state import TrainState

__all__ = ["Resumable", "StepRecord", "fit"]


@runtime_checkable
class Resumable(Protocol):
    """Batches that can say where they stand, as `sae.stream.buffer.ActivationBuffer` can."""

    def cursor(self) -> dict[str, int]:
        """What it takes to go on after the last batch given."""
        ...


@dataclass(frozen=True)
class StepRecord:
    """What one step gave."""

    step: int
    """Optimiser steps taken, this one included."""

    n_tokens: int
    """Tokens seen, this step's included."""

    loss: Loss
    """The step's loss, before its update; it holds no graph."""

    metrics: dict[str, float]
    """`fvu`, `l0` and `dead_fraction` of the step's batch, `grad_norm` before clipping, `lr`."""

    state: TrainState
    """The run's own state, which changes with the next step: save or copy it before."""

    def row(self) -> dict[str, float | int]:
        """The numbers as one flat row, its keys among `training.track.KEYS`."""
        names, terms = list(self.loss.terms), list(self.loss.terms.values())
        values = torch.stack([self.loss.total, *terms]).tolist()
        return {
            "tokens": self.n_tokens,
            "step": self.step,
            **{f"loss/{name}": each for name, each in zip(["total", *names], values, strict=True)},
            **{f"fit/{name}": each for name, each in self.metrics.items()},
        }


def fit(
    sae: Sae,
    batches: Iterable[Float[Tensor, "n d_in"]],
    config: TrainConfig,
    state: TrainState | None = None,
) -> Iterator[StepRecord]:
    """Fits `sae` in place, one record a step, until `config.n_tokens` were seen.

    Touches no file, no dashboard and no clock, and draws no random number: dictionary, batches and
    configuration decide every bit of the result. Decoder rows have norm 1 after every step.
    Between two records the dictionary may be evaluated; at the end it is in evaluation mode.

    Args:
        sae: A dictionary that `sae.dictionary.initialise_` or `training.continuation` prepared;
            when resuming, one of the same configuration, whose content is overwritten.
        batches: Residual vectors of real tokens, unscaled; every row counts. No batch is drawn
            before it is needed.
        config: The run.
        state: Where to go on; None begins. The run that follows equals the unbroken one bit for
            bit when `batches` go on from `state.cursor`.

    Returns:
        An iterator that takes one step for each record it is asked for.

    Raises:
        ConfigError: `state` belongs to another run, dictionary or place in the batches, or a
            batch has another width than the dictionary.
        InputError: The batches end before `config.n_tokens`.
        NumericalError: The loss or its gradient is not finite; parameters and moments are as they
            were after the last record.

    Example:
        >>> from sae.dictionary import SaeConfig, TopKConfig, initialise_
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> sae = Sae(SaeConfig(d_in=4, d_sae=8, sparsity=TopKConfig(k=2)))
        >>> initialise_(sae, x, seed=0)
        >>> run = TrainConfig(n_tokens=6400, batch_tokens=64, lr=1e-2)
        >>> fvu = [record.metrics["fvu"] for record in fit(sae, [x] * 100, run)]
        >>> len(fvu), fvu[-1] < fvu[0]
        (100, True)
    """
    run = _Run(sae, batches, config)
    if state is not None:
        run.restore_(state)
    return run.records()


class _Run:
    """What changes while a dictionary is fitted."""

    def __init__(
        self, sae: Sae, batches: Iterable[Float[Tensor, "n d_in"]], config: TrainConfig
    ) -> None:
        _keep_what_is_freed()
        self.sae, self.batches, self.config = sae, batches, config
        self.optimiser = adam(sae, config)
        self.peak_rate = float(self.optimiser.defaults["lr"])
        self.encoder_dtype = getattr(torch, config.encoder_dtype)
        self.step = self.n_tokens = 0
        self.n_tokens_since_fired = torch.zeros(
            sae.config.d_sae, dtype=torch.int64, device=sae.W_enc.device
        )

    def records(self) -> Iterator[StepRecord]:
        """One record a step, until the last token."""
        stream = iter(self.batches)
        while self.n_tokens < self.config.n_tokens:
            yield self.take(self.next_batch(stream))
        self.sae.eval()

    def next_batch(self, stream: Iterator[Float[Tensor, "n d_in"]]) -> Float[Tensor, "n d_in"]:
        """The next batch, checked, where the dictionary lies."""
        x = next(stream, None)
        if x is None:
            raise InputError(
                f"{self.config.n_tokens:,} tokens",
                f"batches that ended after {self.n_tokens:,}",
                "give batches that repeat, or lower n_tokens",
            )
        if x.shape[-1] != self.sae.config.d_in:
            raise ConfigError(
                f"vectors of width {self.sae.config.d_in}",
                f"a batch of shape {list(x.shape)}",
                "set d_in to the width of the hook's activations",
            )
        return x.to(self.sae.W_enc.device)

    def take(self, x: Float[Tensor, "n d_in"]) -> StepRecord:
        """One step on one batch."""
        config = self.config
        # The script may have evaluated in between.
        self.sae.train()
        dead = dead_compute(self.n_tokens_since_fired, config.dead_after_tokens)
        clock = self.n_tokens + len(x) / 2
        loss, output = dictionary_loss(
            self.sae,
            x,
            dead,
            config.aux_weight,
            self.encoder_dtype,
            min(1.0, clock / config.n_tokens),
            config.relative_error,
        )
        self.backward(loss)
        rate = self.peak_rate * rate_factor(clock, config)
        norm = step_(self.sae, self.optimiser, rate, config.grad_clip)
        self.n_tokens_since_fired = dead_update(self.n_tokens_since_fired, output.z)
        self.step, self.n_tokens = self.step + 1, self.n_tokens + len(x)
        metrics = {
            "fvu": fvu_compute(fvu_update(x, output.x_hat)),
            "l0": l0_compute(l0_update(output.z)),
            "dead_fraction": dead.float().mean().item(),
            "grad_norm": norm.item(),
            "lr": rate,
        }
        terms = {name: each.detach() for name, each in loss.terms.items()}
        return StepRecord(
            self.step, self.n_tokens, Loss(terms, loss.weights), metrics, self.state()
        )

    def backward(self, loss: Loss) -> None:
        """Fresh gradients of the total, unless it is not a number."""
        total = loss.total
        if not torch.isfinite(total):
            terms = {name: each.item() for name, each in loss.terms.items()}
            raise NumericalError(
                "a finite loss",
                f"{terms} at step {self.step + 1}",
                "lower lr, or look for activations that are not finite; saved states are sound",
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()

    def state(self) -> TrainState:
        """The run as it stands: references, not copies."""
        return TrainState(
            config=self.config,
            step=self.step,
            n_tokens=self.n_tokens,
            weights=dict(self.sae.state_dict()),
            moments=moments(self.sae, self.optimiser),
            n_tokens_since_fired=self.n_tokens_since_fired,
            cursor=_cursor(self.batches),
        )

    def restore_(self, state: TrainState) -> None:
        """Puts a state in place, once everything is seen to fit."""
        if differences := state.config.differences(self.config):
            raise ConfigError(
                "the run the state belongs to",
                "; ".join(f"{key} was {old}, is {new}" for key, (old, new) in differences.items()),
                "resume with the state's own configuration, or begin a new run",
            )
        if _shapes(self.sae.state_dict()) != _shapes(state.weights):
            raise ConfigError(
                f"a dictionary with {_shapes(self.sae.state_dict())}",
                f"a state with {_shapes(state.weights)}",
                "resume with the dictionary's own configuration",
            )
        if _cursor(self.batches) != state.cursor:
            raise ConfigError(
                f"batches that go on from {state.cursor}",
                f"batches at {_cursor(self.batches)}",
                "make the buffer with cursor=state.cursor",
            )
        self.sae.load_state_dict(state.weights)
        restore_moments_(self.sae, self.optimiser, state.moments)
        self.n_tokens_since_fired = state.n_tokens_since_fired.to(self.n_tokens_since_fired)
        self.step, self.n_tokens = state.step, state.n_tokens


def _keep_what_is_freed() -> None:
    """Has a step's memory serve the next one, where glibc would return it and fault it in anew.

    What glibc keeps goes by the largest block freed, up to 32 MiB.
    """
    torch.empty((32 << 20) - 4096, dtype=torch.uint8)


def _cursor(batches: Iterable[Float[Tensor, "n d_in"]]) -> dict[str, int]:
    """Where the batches stand; nothing for those that cannot say."""
    return dict(batches.cursor()) if isinstance(batches, Resumable) else {}


def _shapes(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in tensors.items()}
