"""How much of a known dictionary each kind finds again, beside SAELens's, over several seeds.

    make peers
    python -m benchmarks.bench_truth

Activations come from `truth/world.py`. Every contestant sees the same tokens once, in an order that
depends on the seed alone, with as many latents, fires a token and tokens a batch, and the same
silence counts as death; whatever else there is to choose is as its library recommends, and stands
in the record. Libraries' own learning rates differ and are for far longer runs, so `--lr 2e-3`
gives everyone one rate, and a full comparison is both runs. Each encodes the same held-out tokens
with its own code, and one piece of code scores them all. Beside them stand random directions, which
are the null, and the true directions with the same simple encoder. The row is appended to
benchmarks/results.jsonl. Takes a kilobyte of temporary disk for a token of 256 dimensions.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from scipy.sparse import csr_array

from benchmarks.results import RESULTS, ROOT, append
from benchmarks.rounds import python_of
from benchmarks.truth.fit_forelimb import KINDS
from benchmarks.truth.score import Seen, agreement, noise_fvu, random_directions, scores
from benchmarks.truth.verdict import Numbers, spread, table, verdicts
from benchmarks.truth.world import World, WorldConfig

PEERS = {"saelens": ("batch_topk", "matryoshka")}
HELD_OUT = "held-out"


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    world = WorldConfig()
    parser.add_argument("--n-features", type=int, default=world.n_features)
    parser.add_argument("--d-in", type=int, default=world.d_in)
    parser.add_argument("--l0", type=float, default=world.l0, help="true features of a token")
    parser.add_argument("--n-roots", type=int, default=world.n_roots)
    parser.add_argument("--world-seed", type=int, default=world.seed)
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--n-tokens", type=int, default=2**20)
    parser.add_argument("--n-held-out", type=int, default=2**16)
    parser.add_argument("--dead-after-tokens", type=int, default=2**17)
    parser.add_argument("--lr", type=float, help="everyone's; left out, each library's own")
    parser.add_argument("--seeds", type=int, default=3, help="dictionaries of each kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="fitted at a time")
    parser.add_argument("--only", nargs="*", help="contestants, such as forelimb/topk")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    return parser.parse_args()


def world_of(flags: argparse.Namespace) -> World:
    """The truth."""
    names = ("n_features", "d_in", "l0", "n_roots")
    given = {name: getattr(flags, name) for name in names}
    return World(replace(WorldConfig(seed=flags.world_seed), **given))


def contestants(only: Sequence[str] | None) -> list[tuple[str, Path]]:
    """`peer/kind` and interpreter of all whose environment is there, the slow ones first."""
    rows = [(peer, kinds) for peer, kinds in (*PEERS.items(), ("forelimb", tuple(KINDS)))]
    found = []
    for peer, kinds in rows:
        names = [f"{peer}/{kind}" for kind in kinds if not only or f"{peer}/{kind}" in only]
        python = python_of(peer) if names else None
        found += [(name, python) for name in names if python is not None]
    return found


def tasks(flags: argparse.Namespace, folder: Path) -> Iterator[tuple[str, list[str], Path]]:
    """Name of a contestant, the command that fits it with one seed, and the file it leaves."""
    prefixes = [flags.d_sae // 16, flags.d_sae // 4]  # as the default recipe's, of 16 d_in
    common = {name: getattr(flags, name) for name in ("d_in", "d_sae", "k", "batch", "lr")}
    common |= {"dead_after_tokens": flags.dead_after_tokens, "prefixes": prefixes, "threads": 1}
    common |= {"data": str(folder / "fit.npy"), "held_out": str(folder / "held_out.npy")}
    for name, python in contestants(flags.only):
        peer, _, kind = name.partition("/")
        script = ROOT / "benchmarks" / "truth" / f"fit_{peer}.py"
        for seed in range(flags.seeds):
            out = folder / f"{peer}-{kind}-{seed}.safetensors"
            what = common | {"kind": kind, "seed": seed, "out": str(out)}
            yield name, [str(python), str(script), json.dumps(what)], out


def carried_out(command: list[str], out: Path) -> Path:
    """Runs a fit to its end.

    Raises:
        SystemExit: It failed; with the last lines of what it said.
    """
    # One thread each, as many at a time as there are cores: a result that no other run changes.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONPATH": str(ROOT)} if "fit_forelimb" in command[1] else {}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"bench_truth: {out.stem} failed:\n{done.stderr[-2000:]}")
    print(f"{out.stem} is fitted", file=sys.stderr)
    return out


def seen(path: Path, n_tokens: int) -> tuple[Seen, dict[str, Any]]:
    """What a contestant left, and its settings."""
    with safe_open(path, "numpy") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        settings = json.loads(file.metadata()["settings"])
    at = (held["token"], held["latent"])
    z = csr_array((held["value"], at), shape=(n_tokens, len(held["W_dec"])))
    return Seen(held["W_dec"], held["b_dec"], z), settings


def simple(rows: np.ndarray, x: np.ndarray, k: int) -> Seen:
    """Rows of norm 1 as a dictionary without a fit: what exceeds one threshold fires.

    Args:
        rows: Directions `[d_sae, d_in]`.
        x: Held-out tokens `[n_tokens, d_in]`.
        k: Fires a token, on average over the first 2,048 tokens.
    """
    few = x[:2048] @ rows.T
    least = np.partition(few, -k * len(few), axis=None)[-k * len(few)]
    parts = [
        csr_array(np.where(pre > least, pre, 0))
        for pre in (part @ rows.T for part in np.array_split(x, max(1, len(x) // 2048)))
    ]
    at = np.cumsum([0, *(part.shape[0] for part in parts)])
    token = np.concatenate([p.tocoo().coords[0] + n for p, n in zip(parts, at, strict=False)])
    latent, value = (np.concatenate([getattr(p, n) for p in parts]) for n in ("indices", "data"))
    z = csr_array((value, (token, latent)), shape=(len(x), len(rows)))
    return Seen(rows, np.zeros(rows.shape[1], np.float32), z)


def main() -> None:
    """Fits everyone, scores everyone, prints the table and the verdict, appends the row."""
    flags = parsed()
    world = world_of(flags)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world.write(folder / "fit.npy", "fit", flags.n_tokens)
        world.write(folder / "held_out.npy", HELD_OUT, flags.n_held_out)
        x = np.load(folder / "held_out.npy")
        listed = list(tasks(flags, folder))
        with ThreadPoolExecutor(flags.jobs) as pool:
            made = list(pool.map(lambda task: carried_out(*task[1:]), listed))
        everyone: dict[str, list[Seen]] = {}
        settings: dict[str, Any] = {}
        for (contestant, _, _), out in zip(listed, made, strict=True):
            found, settings[contestant] = seen(out, flags.n_held_out)
            everyone.setdefault(contestant, []).append(found)
    nulls = [random_directions(flags.d_sae, flags.d_in, seed) for seed in range(flags.seeds)]
    everyone["null/random"] = [simple(rows, x, flags.k) for rows in nulls]
    everyone["truth/simple"] = [simple(world.directions, x, flags.k)]
    report(flags, world, {who: numbers(world, each) for who, each in everyone.items()}, settings)


def numbers(world: World, dictionaries: Sequence[Seen]) -> Numbers:
    """Each number of a contestant, one value a seed; agreement has one a pair of seeds."""
    each = [scores(world, one, HELD_OUT) for one in dictionaries]
    pairs = combinations([one.W_dec for one in dictionaries], 2)
    found = {name: [row[name] for row in each] for name in each[0]}
    return found | {"agreement": [agreement(a, b) for a, b in pairs]}


def report(
    flags: argparse.Namespace,
    world: World,
    everyone: dict[str, Numbers],
    settings: dict[str, Any],
) -> None:
    """The table and the verdict on standard output, and a row in the results."""
    noise = noise_fvu(world, HELD_OUT, flags.n_held_out)
    print(table(everyone))
    print(f"\nmean ± standard deviation over {flags.seeds} seeds; FVU of the truth {noise:.4f}")
    said = verdicts(everyone, "forelimb/default", tuple(PEERS))
    print("\n".join(said))
    names = ("d_sae", "k", "batch", "lr", "n_tokens", "n_held_out", "dead_after_tokens", "seeds")
    facts = {
        "world": world.facts(),
        "shape": {name: getattr(flags, name) for name in names},
        "settings": settings,
        "truth_fvu": round(noise, 5),
        "scores": {
            who: {n: spread(v) for n, v in found.items()} for who, found in everyone.items()
        },
        "verdict": said,
    }
    append(flags.results, "bench_truth", flags.jobs, facts)


if __name__ == "__main__":
    main()
