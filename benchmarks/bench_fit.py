"""Harvest and training end to end: tokens a second, and where the time goes.

    python -m benchmarks.bench_fit

A Llama with random weights is made here, its text is random tokens, and a dictionary of the default
recipe is fitted to its residual vectors, in two ways: taken from the model as they are needed, and
through a cache on disk. Shares are of one run's wall clock; of several runs the one with the median
speed is shown, with the range. Beside them stands the model alone, which is the most that any fit
on it could reach. Needs no network and no peer. The rows are appended to benchmarks/results.jsonl.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.results import RESULTS, append
from sae.dictionary import Sae, initialise_
from sae.stream.activations import HookPoint, harvest
from sae.stream.buffer import ActivationBuffer, CacheSource, ModelSource, Source
from sae.stream.cache import write_cache
from sae.stream.model import LanguageModel, load_model
from sae.stream.tokens import TokenizedText
from training.loop import fit
from training.recipes import default

SAMPLE_TOKENS = 8192


@dataclass
class Clock:
    """Seconds by name; a part inside another counts for itself alone."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of each part."""
    inside: list[str] = field(default_factory=list)
    """Parts that are running, the innermost last."""
    since: float = 0.0
    """When the innermost one last began or went on."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what runs inside for a part, and stops counting for the one around it."""
        self._turn()
        self.inside.append(name)
        try:
            yield
        finally:
            self._turn()
            self.inside.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self.inside:
            self.seconds[self.inside[-1]] += now - self.since
        self.since = now


class TimedSource:
    """A source whose chunks are timed.

    Args:
        source: Where chunks come from.
        clock: Counts them.
        name: Of the part.
    """

    def __init__(self, source: Source, clock: Clock, name: str) -> None:
        self._source, self._clock, self._name = source, clock, name
        self.n_chunks, self.d_in, self.n_most = source.n_chunks, source.d_in, source.n_most

    def chunk(self, number: int) -> Tensor:
        """Rows of a chunk."""
        with self._clock.part(self._name):
            return self._source.chunk(number)


def timed(batches: Iterable[Tensor], clock: Clock) -> Iterator[Tensor]:
    """The batches, the time to give them counted as `buffer`."""
    stream = iter(batches)
    while True:
        with clock.part("buffer"):
            x = next(stream)
        yield x


def random_model(flags: argparse.Namespace) -> LanguageModel:
    """A Llama of the usual proportions with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=flags.vocab,
        hidden_size=flags.d_in,
        intermediate_size=flags.d_in * 8 // 3,
        num_hidden_layers=flags.layers,
        num_attention_heads=max(1, flags.d_in // 64),
        max_position_embeddings=flags.length,
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    return load_model(LlamaForCausalLM(config), tokenizer)


def random_text(flags: argparse.Namespace) -> TokenizedText:
    """Documents of random tokens, of length up to `length` and a quarter at least."""
    rng = np.random.default_rng(0)
    ids: list[np.ndarray] = []
    while sum(map(len, ids)) < flags.text_tokens:
        size = int(rng.integers(flags.length // 4, flags.length + 1))
        ids.append(rng.integers(flags.vocab, size=size))
    n = sum(map(len, ids))
    return TokenizedText(
        tuple(ids),
        pd.DataFrame(dict.fromkeys(("is_special", "is_outlier"), np.zeros(n, dtype=bool))),
    )


def fitted(source: Source, clock: Clock, flags: argparse.Namespace) -> None:
    """Begins a dictionary on the first chunks and takes every step; nothing is saved or judged."""
    shape, run = default(flags.d_in)
    dead = max(1, flags.n_tokens // 8)
    run = replace(
        run, n_tokens=flags.n_tokens, dead_after_tokens=dead, encoder_dtype=flags.encoder_dtype
    )
    chunks: list[Tensor] = []
    while sum(map(len, chunks)) < SAMPLE_TOKENS and len(chunks) < source.n_chunks:
        chunks.append(source.chunk(len(chunks)))
    sae = Sae(shape)
    initialise_(sae, torch.cat(chunks)[:SAMPLE_TOKENS], seed=0)
    steps = fit(sae, timed(ActivationBuffer(source, run.batch_tokens), clock), run)
    while True:
        with clock.part("step"):
            record = next(steps, None)
        if record is None:
            return
        record.row()


def from_model(model: LanguageModel, text: TokenizedText, flags: argparse.Namespace) -> Clock:
    """Activations as they are needed."""
    clock, hook = Clock(), HookPoint.parse(flags.hook)
    with clock.part("rest"):
        source = ModelSource(model, text, hook, documents_per_chunk=flags.documents)
        fitted(TimedSource(source, clock, "forward"), clock, flags)
    return clock


def through_cache(model: LanguageModel, text: TokenizedText, flags: argparse.Namespace) -> Clock:
    """All activations to disk first, and from there."""
    clock, hook = Clock(), HookPoint.parse(flags.hook)
    with tempfile.TemporaryDirectory() as folder, clock.part("rest"):
        with clock.part("harvest"):
            cache = write_cache(Path(folder) / "cache", model, text, hook)
        source = CacheSource(cache)
        fitted(TimedSource(source, clock, "read"), clock, flags)
    return clock


def model_alone(model: LanguageModel, text: TokenizedText, flags: argparse.Namespace) -> Clock:
    """As many tokens through the model, and nothing done with them."""
    clock, hook, n = Clock(), HookPoint.parse(flags.hook), 0
    with clock.part("forward"):
        while n < flags.n_tokens:
            for rows, _ in harvest(model, text, [hook]):
                n += rows.stop - rows.start
                if n >= flags.n_tokens:
                    break
    return clock


WAYS = {"from the model": from_model, "through a cache": through_cache, "model alone": model_alone}


def main() -> None:
    """Runs each way in turn, prints the table, appends the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("d-in", 256), ("layers", 6), ("vocab", 8192), ("length", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--hook", default="blocks.3.hook_resid_post")
    parser.add_argument("--n-tokens", type=int, default=2**18, help="that the fit sees")
    parser.add_argument("--text-tokens", type=int, default=2**18, help="of the text, read again")
    parser.add_argument("--documents", type=int, default=64, help="of a chunk of the buffer")
    parser.add_argument("--encoder-dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    model, text = random_model(flags), random_text(flags)
    runs: dict[str, list[Clock]] = {name: [] for name in WAYS}
    for _ in range(flags.rounds):
        for name, way in WAYS.items():
            runs[name].append(way(model, text, flags))
    facts = {name: told(each, flags.n_tokens) for name, each in runs.items()}
    for name, found in facts.items():
        low, high = found["range"]
        print(f"{name:18s}{found['tokens_per_second']:10,.0f} tokens/s  [{low:,.0f}, {high:,.0f}]")
        print("".join(f"    {part} {share:.1%}" for part, share in found["shares"].items()))
    shape = {key: value for key, value in vars(flags).items() if key not in ("results", "threads")}
    append(flags.results, "bench_fit", flags.threads, {"shape": shape, "ways": facts})


def told(clocks: list[Clock], n_tokens: int) -> dict:
    """The run of median speed: tokens a second and shares of its time; and the range of all."""
    ranked = sorted(clocks, key=lambda clock: sum(clock.seconds.values()))
    totals = [sum(clock.seconds.values()) for clock in ranked]
    middle = len(ranked) // 2
    shares = {name: each / totals[middle] for name, each in ranked[middle].seconds.items()}
    return {
        "tokens_per_second": round(n_tokens / totals[middle]),
        "range": [round(n_tokens / totals[-1]), round(n_tokens / totals[0])],
        "shares": {
            name: round(shares[name], 4) for name in sorted(shares, key=lambda s: -shares[s])
        },
    }


if __name__ == "__main__":
    main()
