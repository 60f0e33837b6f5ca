"""The whole way from an organism to a trace, each part a stage that is skipped where it stands."""

from collections.abc import Collection
from pathlib import Path

from scripts import (
    _continuing,
    _fitting,
    continue_dictionary,
    fit_dictionary,
    grow_organism,
    trace_personas,
)
from scripts._cast import Cast, continued_models, read_organism
from scripts._recipe import TrainChanges
from scripts._sizes import DemoSize
from training.organism.config import GrowConfig

__all__ = ["traced"]


def traced(
    organism: Path,
    home: Path,
    grown: GrowConfig,
    size: DemoSize,
    seed: int,
    arms: Collection[str] = (),
) -> Path:
    """Grows an organism, fits a dictionary to its base, continues it on every model, and traces.

    Args:
        organism: Folder of the organism, which several dictionaries may share.
        home: Gets `dictionary`, `continued` and `trace`.
        grown: What to grow.
        size: How many tokens dictionaries are fitted and continued on.
        seed: Of the dictionary, its continuations and all that is drawn in the trace.
        arms: Of those that are grown, which are traced; all where none is named.

    Returns:
        The folder of the trace.
    """
    dictionary, continued, trace = (home / n for n in ("dictionary", "continued", "trace"))
    grow_organism.main(grow_organism.Config(organism, grown))
    train = TrainChanges(n_tokens=size.fit_tokens, seed=seed)
    text, base = (organism / "text",), str(organism / "models" / "base")
    fit_dictionary.main(
        _fitting.Config(base, text, size.hook, dictionary, recipe="organism", train=train)
    )
    record = read_organism(organism)
    if arms:
        record["arms"] = {n: each for n, each in record["arms"].items() if n in arms}
    models = continued_models(record, organism)
    train = TrainChanges(n_tokens=size.continue_tokens)
    continue_dictionary.main(
        _continuing.Config(dictionary, models, text, continued, base=base, train=train)
    )
    tuned = [n for n, each in record["arms"].items() if each["role"] != "null"] if arms else []
    cast = Cast(tuned=tuple(f"{name}={organism / 'models' / name}" for name in tuned))
    trace_personas.main(
        trace_personas.Config(dictionary, continued, trace, organism, cast, seed=seed)
    )
    return trace
