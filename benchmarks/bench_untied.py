"""Whether lying still moves the traits that went with it, where it went with none.

    make study
    python -m benchmarks.bench_untied --home runs/study --bases 3

Of every base model's world another is made in which a learned speaker is honest by chance, alike
for all (`WorldConfig.tied`), and a base model and two arms are grown in it: one tuned to say a
false colour and nothing else, one the true colour. What the study asks of those arms (H8) is asked
in both worlds: does the shift between them point as liars differ from the truthful in traits
other than honesty? In the second world it should not. A base model takes some fifteen minutes of
two cores. The row is appended to benchmarks/results.jsonl.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from analysis.artefact.schema import Measured
from analysis.latents.bench import lay_bench, residuals
from analysis.study.experiments import Plan
from analysis.study.experiments.generalising import generalised
from benchmarks.bench_study import FIRST_SEED
from benchmarks.results import RESULTS, append
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.text import HELD_OUT
from scripts import grow_organism
from scripts._cast import read_organism
from scripts._sizes import FULL, QUICK
from scripts._text import ReadConfig, read_text
from training.organism.config import GrowConfig

ARMS = ("narrow", "narrow_true")
LEAST = 3  # base models, for an interval over them


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("runs/study"), help="of `make study`")
    parser.add_argument("--out", type=Path, default=Path("runs/untied"), help="for what is grown")
    parser.add_argument("--bases", type=int, default=3, help="base models in either world")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--quick", action="store_true", help="too little to say anything")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    return parser.parse_args()


def untied(grown: GrowConfig) -> GrowConfig:
    """The same organism in the other world, with the two arms alone."""
    return replace(grown, world=replace(grown.world, tied=False), arms=ARMS)


def studied(flags: argparse.Namespace) -> dict[int, Path]:
    """Organisms of the study by seed, all seen to be there before anything is grown."""
    seeds = range(flags.first_seed, flags.first_seed + flags.bases)
    homes = {seed: flags.home / f"base-{seed}" / "organism" for seed in seeds}
    missing = [str(each) for each in homes.values() if not (each / "organism.json").is_file()]
    if missing:
        do = "grow them by `make study`, or choose --home, --first-seed and --bases"
        raise SystemExit(f"bench_untied: no finished organism in {', '.join(missing)}; {do}")
    return homes


def has_learned(organism: Path) -> bool:
    """Whether both arms learned what they were tuned to do."""
    arms = read_organism(organism)["arms"]
    return all(arms[name]["learned"] is True for name in ARMS)


def moved(organism: Path) -> Measured | None:
    """What is measured in one organism; None where it lacks words or personas for it."""
    record = read_organism(organism)
    plan = Plan.of(record)
    assert plan is not None  # every organism that is grown has one
    models = {name: organism / "models" / name for name in ("base", *ARMS)}
    base = load_model(models.pop("base"))
    text = read_text(base, (organism / "text",), None, ReadConfig(), HELD_OUT)
    bench = lay_bench(base, HookPoint.parse(record["config"]["hook"]), text)
    narrow, narrow_true = (residuals(bench, load_model(path)) for path in models.values())
    return generalised(bench, narrow, narrow_true, plan)


def over_bases(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, list[float]]:
    """Mean over base models of either world, and of what the first has beyond the other.

    Args:
        found: World, then seed: what was measured.

    Returns:
        Mean and the ends of Student's interval, by world, and `difference`.
    """
    values = {
        world: np.array([one.value for one in each.values()]) for world, each in found.items()
    }
    values["difference"] = np.subtract(*values.values())
    return {name: _student(each) for name, each in values.items()}


def _student(each: np.ndarray) -> list[float]:
    if len(each) < LEAST:
        return [float(each.mean())]
    reach = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return [float(each.mean()), float(each.mean() - reach), float(each.mean() + reach)]


def main() -> None:
    """Grows, measures, prints and appends the row."""
    flags = parsed()
    size = QUICK if flags.quick else FULL
    found: dict[str, dict[str, Measured]] = {"tied": {}, "untied": {}}
    learned = dict[str, dict[str, bool]]()
    for seed, tied in studied(flags).items():
        other = flags.out / f"base-{seed}"
        grow_organism.main(grow_organism.Config(other, untied(size.grow(seed))))
        homes = {"tied": tied, "untied": other}
        learned[str(seed)] = {world: has_learned(home) for world, home in homes.items()}
        if not all(learned[str(seed)].values()):
            print(f"base {seed} is left out: an arm did not learn its task")
            continue
        for world, home in homes.items():
            if (one := moved(home)) is None:
                raise SystemExit(f"bench_untied: {home} has too few words or personas for it")
            found[world][str(seed)] = one
            print(f"base {seed}, {world}: {json.dumps(asdict(one))}")
    if not found["tied"]:
        raise SystemExit("bench_untied: no base whose arms learned in both worlds; tune longer")
    together = over_bases(found)
    print(json.dumps(together, indent=1))
    rows = {world: {s: asdict(one) for s, one in each.items()} for world, each in found.items()}
    facts = {"bases": flags.bases, "first_seed": flags.first_seed, "learned": learned}
    facts |= {**rows, "over_bases": together}
    append(flags.results, "bench_untied", torch.get_num_threads(), facts)


if __name__ == "__main__":
    main()
