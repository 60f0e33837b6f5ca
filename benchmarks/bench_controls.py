"""Persona latents where there is little to find, or nothing: what a confirmed latent is worth.

    make demo
    python -m benchmarks.bench_controls --organism runs/demo/organism

Dictionaries are fitted alike on the organism's base model, with all directions free and with random
ones that stay as they are, and on a model of random weights; and personas are looked for in all of
them as a trace does. In the first they are looked for once more with the labels of speakers dealt
anew, and the base of another organism (`--other`) is read by it, mapped linearly to the first. The
table is printed, and the row appended to benchmarks/results.jsonl.

Source: random weights, Heap et al. 2025 (arXiv:2501.17727); frozen random directions, Korznikov et
al. 2026 (arXiv:2602.14111).
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import LinearRegression
from torch import Tensor

from analysis.latents.bench import ModelBench, lay_bench, residuals, through
from analysis.personas.carriers import find_carriers
from benchmarks.results import RESULTS, append
from sae.dictionary import Sae, initialise_
from sae.dictionary.controls import freeze_decoder_
from sae.dictionary.metrics import fvu_compute, fvu_update
from sae.stream.activations import HookPoint, harvest
from sae.stream.model import LanguageModel, load_model
from sae.stream.text import HELD_OUT, read_documents
from sae.stream.tokens import TokenizedText, tokenize
from training.loop import fit
from training.organism.language_model import ShapeConfig, new_model
from training.recipes import organism

SAMPLE = 8192


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--organism", type=Path, default=Path("runs/demo/organism"))
    parser.add_argument("--other", type=Path, help="an organism of another seed")
    parser.add_argument("--n-tokens", type=int, help="of each fit; None is the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    return parser.parse_args()


def fitted(
    x: Float[Tensor, "n d_in"], n_tokens: int | None, seed: int, keeps_directions: bool = False
) -> Sae:
    """A dictionary of the organism's recipe, on residual vectors that come round again."""
    shape, run = organism(seed)
    run = replace(run, n_tokens=n_tokens or run.n_tokens)
    sae, order = Sae(shape), torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Float[Tensor, "b d_in"]]:
        while True:
            mixed = torch.randperm(len(x), generator=order)
            for rows in mixed[: len(x) // run.batch_tokens * run.batch_tokens].split(
                run.batch_tokens
            ):
                yield x[rows]

    initialise_(sae, x[torch.randperm(len(x), generator=order)[:SAMPLE]], seed)
    if keeps_directions:
        freeze_decoder_(sae)
    for _ in fit(sae, batches(), run):
        pass
    return sae.folded().eval()


def dealt(tokens: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same tokens, every speaker of every document with the persona of another one."""
    labelled = ["doc", "role", "speaker"]
    who = tokens.groupby(labelled, dropna=False, sort=False).ngroup().to_numpy()
    first = tokens.loc[~pd.Series(who).duplicated().to_numpy(), "persona"].to_numpy(object)
    speaks = np.array([isinstance(each, str) and each != "none" for each in first])
    first[speaks] = np.random.default_rng(seed).permutation(first[speaks])
    return tokens.assign(persona=first[who])


def row_of(bench: ModelBench, sae: Sae) -> dict[str, float | int]:
    """What is found of personas in a dictionary."""
    found, x = through(bench, sae, bench.x), torch.from_numpy(bench.x)
    x_hat = torch.cat([sae.decode(sae.encode(part)) for part in x.split(SAMPLE)])
    carriers = find_carriers(bench, found)
    best = carriers.best()
    confirmed = carriers.personas["confirmed"].to_numpy(bool)
    return {
        "fvu": fvu_compute(fvu_update(x, x_hat)),
        "l0": found.z.nnz / len(bench.x),
        "pairs_confirmed": int(confirmed.sum()),
        "pairs_carried": len(confirmed),
        "personas": int(best["confirmed"].to_numpy(bool).sum()),
        "latent_auroc": float(best["auroc"].median()),
        "latent_auroc_best": float(best["auroc"].max()),
        "probe_auroc": float(carriers.probe["auroc"].median()),
    }


@torch.no_grad()
def fit_vectors(model: LanguageModel, hook: HookPoint, text: TokenizedText) -> Tensor:
    """Residual vectors of the fit split, special tokens left out."""
    kept = torch.from_numpy(~text.table["is_special"].to_numpy(bool))
    parts = [(rows, found[hook]) for rows, found in harvest(model, text, [hook])]
    return torch.cat([x[kept[rows]] for rows, x in parts])


def onto(
    x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_in"], held: Float[np.ndarray, "m d_in"]
) -> Float[np.ndarray, "m d_in"]:
    """Vectors of one model, mapped as best maps its vectors x to another's y of the same tokens."""
    fit_map = LinearRegression().fit(x.numpy(), y.numpy())
    return fit_map.predict(held).astype(np.float32)


def controls(
    home: Path, other_home: Path | None, n_tokens: int | None, seed: int
) -> dict[str, dict[str, float | int]]:
    """What is found of personas on a base model and its controls.

    Args:
        home: The organism.
        other_home: Another whose base model is mapped to the first's.
        n_tokens: Of each fit; None is the recipe's.
        seed: Of fits, of random weights and of labels dealt anew.

    Returns:
        Rows of the table by what was looked at.
    """
    record = json.loads((home / "organism.json").read_text(encoding="utf-8"))["config"]
    hook, shape = HookPoint.parse(record["hook"]), ShapeConfig(**record["shape"])
    base = load_model(home / "models" / "base")
    random = load_model(new_model(shape, base.tokenizer, seed), base.tokenizer)
    written = {s: read_documents(home / "text", split=s) for s in (("fit",), HELD_OUT)}
    fit_on, held = (tokenize(each, base.tokenizer, shape.n_positions) for each in written.values())
    rows, x = {}, fit_vectors(base, hook, fit_on)
    bench, own = lay_bench(base, hook, held, seed), fitted(x, n_tokens, seed)
    rows["fitted on the base"] = row_of(bench, own)
    rows["the same, labels dealt anew"] = row_of(
        replace(bench, tokens=dealt(bench.tokens, seed)), own
    )
    kept = fitted(x, n_tokens, seed, keeps_directions=True)
    rows["random directions kept"] = row_of(bench, kept)
    if other_home is not None:
        other = load_model(other_home / "models" / "base")
        mapped = onto(fit_vectors(other, hook, fit_on), x, residuals(bench, other))
        rows["another base, mapped linearly"] = row_of(replace(bench, x=mapped), own)
    x = fit_vectors(random, hook, fit_on)
    noise = fitted(x, n_tokens, seed)
    rows["on random weights"] = row_of(lay_bench(random, hook, held, seed), noise)
    return rows


def main() -> None:
    """Fits, looks for personas, prints the table and appends the row."""
    flags = parsed()
    rows = controls(flags.organism, flags.other, flags.n_tokens, flags.seed)
    print(pd.DataFrame(rows).T.round(3).to_string())
    facts = {"seed": flags.seed, "rows": rows}
    append(flags.results, "bench_controls", torch.get_num_threads(), facts)


if __name__ == "__main__":
    main()
