"""The whole way once: grow an organism, fit, continue, trace, and write the report.

    make demo            twelve to eighteen minutes on two cores, under four GiB
    make demo DEMO=quick   three to four minutes, two arms, and no verdict; in runs/quick

The same as grow_organism, fit_dictionary, continue_dictionary and trace_personas one after the
other; each prints its command's folder, and is skipped where that is up to date.
"""

import shutil
import sys
from pathlib import Path

from scripts import (
    _continuing,
    _fitting,
    continue_dictionary,
    fit_dictionary,
    grow_organism,
    trace_personas,
)
from scripts._cast import continued_models, read_organism
from scripts._cli import run
from scripts._recipe import TrainChanges
from scripts._sizes import FULL, QUICK, Config


def main(config: Config) -> None:
    """Goes through the stages; each that is up to date is skipped."""
    size = QUICK if config.quick else FULL
    home = config.out or Path("runs") / ("quick" if config.quick else "demo")
    organism, dictionary = home / "organism", home / "dictionary"
    continued, trace = home / "continued", home / "trace"
    grow_organism.main(grow_organism.Config(organism, size.grow(config.seed)))
    train = TrainChanges(n_tokens=size.fit_tokens, seed=config.seed)
    text = (organism / "text",)
    base = str(organism / "models" / "base")
    fit_dictionary.main(
        _fitting.Config(base, text, size.hook, dictionary, recipe="organism", train=train)
    )
    models = continued_models(read_organism(organism), organism)
    train = TrainChanges(n_tokens=size.continue_tokens)
    continue_dictionary.main(
        _continuing.Config(dictionary, models, text, continued, base=base, train=train)
    )
    trace_personas.main(
        trace_personas.Config(dictionary, continued, trace, organism, seed=config.seed)
    )
    shutil.copyfile(trace / "report.html", home / "report.html")
    print(home / "report.html")


if __name__ == "__main__":
    sys.exit(run(main, Config))
