"""The whole way once: grow an organism, fit, continue, trace, and write the report.

    make demo            nine to eighteen minutes on two cores, under four GiB
    make demo DEMO=quick   four minutes, two arms, and no verdict; in runs/quick

The same as grow_organism, fit_dictionary, continue_dictionary and trace_personas one after the
other; each prints its command's folder, and is skipped where that is up to date.
"""

import shutil
import sys
from pathlib import Path

from scripts._chain import traced
from scripts._cli import run
from scripts._sizes import FULL, QUICK, Config


def main(config: Config) -> None:
    """Goes through the stages; each that is up to date is skipped."""
    size = QUICK if config.quick else FULL
    home = config.out or Path("runs") / ("quick" if config.quick else "demo")
    seed = config.seed
    trace = traced(home / "organism", home, size.grow(seed), size, seed)
    shutil.copyfile(trace / "report.html", home / "report.html")
    print(home / "report.html")


if __name__ == "__main__":
    sys.exit(run(main, Config))
