"""How well latents are told that mean something else downstream, where that was planted.

    make demo
    python -m benchmarks.bench_rewiring --home runs/demo

Of an organism's held-back null, which only read on in its pre-training text, copies are made in
which some latents are turned towards others downstream of the hook (`analysis.planted.rewired`).
The copies are traced like any tuned model, against the other nulls. Latents that were turned by an
angle should be called re-wired, those that lie apart from all that was turned should not, though
they fire beside others that were. Angles are of each pair's plane, and planes are turned one after
another. The row is appended to benchmarks/results.jsonl.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from analysis.artefact.names import UNCHANGED
from analysis.fates.subjects import Subject
from analysis.planted import rewired, turning
from analysis.study.tracing import TraceConfig, study
from benchmarks.results import RESULTS, append
from sae import read, write
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.text import HELD_OUT
from scripts._cast import Cast, cast_of, read_organism
from scripts._text import ReadConfig, named_models, read_text

APART = 0.05  # of a row's squared length that may lie in what was turned, for it to count as apart
ANGLES = (15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
LEVEL = 0.05


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("runs/demo"), help="of `make demo`")
    parser.add_argument("--organism", type=Path, help="where it is not in --home")
    parser.add_argument("--models", type=int, default=6, help="copies with other latents turned")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of latents turned in each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    return parser.parse_args()


def organism_of(flags: argparse.Namespace) -> Path:
    """Folder of the organism."""
    return flags.organism or flags.home / "organism"


def measured_latents(home: Path) -> np.ndarray:
    """Inherited latents whose effect was measured in every arm, among those that have a fate."""
    fates = pd.read_parquet(home / "trace" / "fates.parquet")
    kept = fates.loc[(fates["origin"] == "base") & fates["effect"].notna()]
    counts = kept.groupby("latent")["tuned"].nunique()
    return counts.index[counts == fates["tuned"].nunique()].to_numpy(int)


def planted(flags: argparse.Namespace, folder: Path) -> tuple[TraceConfig, pd.DataFrame]:
    """Writes the copies; what is to be traced, and what is true of every latent in every copy."""
    home, rng = flags.home, np.random.default_rng(flags.seed)
    organism = organism_of(flags)
    cast = cast_of(Cast(), read_organism(organism), organism)
    assert cast.base is not None and cast.held_back is not None
    ((held, path),) = named_models([cast.held_back]).items()
    rung = sorted(each.name for each in (home / "continued").glob(f"{held}@*"))[-1]
    source = load_model(Path(path) / "checkpoints" / rung.split("@")[1])
    dictionary, meta = read(home / "continued" / rung)
    hook = HookPoint.parse(str(meta["hook"]))
    shutil.copytree(home / "continued", folder / "continued")
    rows = dictionary.W_dec.detach().numpy().astype(float)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pool, truth, tuned = measured_latents(home), list[pd.DataFrame](), list[Subject]()
    for number in range(flags.models):
        name = f"rewired_{number}"
        pairs = rng.choice(pool, size=(flags.pairs, 2), replace=False)
        angles = rng.choice(ANGLES, size=flags.pairs)
        turn = turning([(units[a], units[b]) for a, b in pairs], np.deg2rad(angles).tolist())
        module = rewired(source.module, hook.layer + 1, turn)
        module.save_pretrained(folder / name)
        source.tokenizer.save_pretrained(folder / name)
        # What it reads is as before, so the dictionary is the same, said to be of this model.
        own = {"model": name, "model_sha256": load_model(folder / name).weights_sha256}
        write(folder / "continued" / name, dictionary, {**meta, **own})
        plane = np.linalg.svd(units[pairs.ravel()], full_matrices=False)[2]
        inside = ((units @ plane.T) ** 2).sum(axis=1)
        table = pd.DataFrame({"tuned": name, "latent": np.arange(len(rows)), "inside": inside})
        table["angle"] = table["latent"].map(dict(zip(pairs[:, 0], angles, strict=True)))
        truth.append(table)
        tuned.append(Subject(name, str(folder / name)))
    nulls = tuple(Subject(*each) for each in named_models(cast.null).items())
    config = TraceConfig(
        cast.base, home / "dictionary", folder / "continued", tuple(tuned), nulls,
        Subject(held, path), seed=flags.seed,
    )  # fmt: skip
    return config, pd.concat(truth, ignore_index=True)


def counted(fates: pd.DataFrame, truth: pd.DataFrame) -> dict[str, object]:
    """Calls among the latents that were turned, by angle, and among those that lie apart."""
    table = fates.loc[fates["origin"] == "base"].merge(truth, on=["tuned", "latent"])
    table = table.loc[table["effect"].notna() & table["q_value"].notna()]
    angle = table["angle"].to_numpy(float)
    apart = table.loc[np.isnan(angle) & (table["inside"].to_numpy(float) < APART)]
    false = int((apart["fate"] == "re_wired").sum())
    by_angle = {
        f"{each:.0f}": {
            "n": len(mine),
            "re_wired": int((mine["fate"] == "re_wired").sum()),
            "preserved": int((mine["fate"] == "preserved").sum()),
            "effect": float(mine["effect"].median()) if len(mine) else None,
        }
        for each in ANGLES
        for mine in [table.loc[angle == each]]
    }
    changed = ~apart["fate"].isin(UNCHANGED)
    # Copies share their activations up to the hook, so a latent counts once.
    p = apart.drop_duplicates("latent")["p_value"].dropna().to_numpy(float)
    n_low, n = int((p <= LEVEL).sum()), len(p)
    return {
        "turned": by_angle,
        "apart": {
            "n": len(apart),
            "re_wired": false,
            "changed": int(changed.sum()),
            "preserved": float((apart["fate"] == "preserved").mean()),
            "p_below_05": n_low / max(n, 1),
            "by_chance": [each / max(n, 1) for each in stats.binom.interval(0.95, n, LEVEL)],
        },
    }


def main() -> None:
    """Plants, traces, counts, prints and appends the row."""
    flags = parsed()
    with tempfile.TemporaryDirectory() as made:
        config, truth = planted(flags, Path(made))
        text = read_text(
            load_model(config.base),
            (organism_of(flags) / "text",),
            None,
            ReadConfig(),
            HELD_OUT,
        )
        found = study(config, text)
    fates = pd.concat([each.fates for each in found.verdicts.values()], ignore_index=True)
    facts = counted(fates, truth)
    print(json.dumps(facts, indent=1))
    asked = {"models": flags.models, "pairs": flags.pairs, "seed": flags.seed}
    append(flags.results, "bench_rewiring", torch.get_num_threads(), {"asked": asked, **facts})


if __name__ == "__main__":
    main()
