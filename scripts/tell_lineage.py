r"""Says when each latent changed along a training run, for how long, and if it went back.

    python -m scripts.tell_lineage --trace runs/steps/trace --out runs/steps/lineage \
        --checkpoints [step_0100,step_0200,step_0400]

The checkpoints are tuned models of one trace, in order of training: `trace_caches --tuned
[step_0100=CACHE,...]`, or `trace_personas --cast.tuned [step_0100=MODEL,...]` with a dictionary
continued on each. Prints a table by onset and writes lineage.parquet, a row a latent
(`analysis.fates.lineage`).
"""

import sys
from dataclasses import asdict

import pandas as pd

from scripts._cli import run
from scripts._lineage import FILE, Config, by_onset, told
from scripts._stage import fingerprint, prepared_stage, require_own


def main(config: Config) -> None:
    """Tells the lineage unless the folder is up to date, and prints the table."""
    require_own(config.out, "a lineage", FILE)
    inputs = {"trace": fingerprint(config.trace)}
    prepared_stage(config.out, inputs, asdict(config), lambda: told(config))
    print(by_onset(pd.read_parquet(config.out / FILE), config.checkpoints))


if __name__ == "__main__":
    sys.exit(run(main, Config))
