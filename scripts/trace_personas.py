r"""Traces the latents of a base model's dictionary into tuned models, and says what became of each.

    python -m scripts.trace_personas --organism runs/demo/organism \
        --dictionary runs/demo/dictionary --continued runs/demo/continued --out runs/demo/trace

Two cores, 200,000 held-out tokens, four tuned models and two nulls: two minutes and 3 GiB. Models
from elsewhere are named: `--cast.base B --cast.tuned [assistant=A] --cast.null continued_a=C`.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from analysis.trace_folder import write_trace
from analysis.tracing import study
from sae.stream.model import load_model
from sae.stream.text import Columns
from scripts._cast import Cast, read_organism, texts_of, trace_config
from scripts._cli import run
from scripts._meter import Parts
from scripts._report import seconds_of, write_and_tell
from scripts._stage import fingerprint, require_own, stage
from scripts._text import ReadConfig, read_text, sha256_of_model, sha256_of_text


@dataclass(frozen=True)
class Config:
    """What to trace, and where to put it."""

    dictionary: Path
    """Dictionary fitted on the base model."""
    continued: Path
    """Folder of continued dictionaries: `base`, and one for every tuned model and null."""
    out: Path
    """Folder that gets summary.json, the tables and report.html."""
    organism: Path | None = None
    """Folder of an organism, whose models, text and observer are used where none are named."""
    cast: Cast = field(default_factory=Cast)
    """Which model plays which part."""
    text: tuple[Path, ...] = ()
    """Jsonl files of held-out text, or folders of them."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How much of the text to read."""
    seed: int = 0
    """Of resampling blocks, resamples and random subspaces."""


def main(config: Config) -> None:
    """Traces unless the folder is up to date, then writes its report and prints the verdict."""
    organism = read_organism(config.organism)
    trace = trace_config(config, organism)
    texts = texts_of(config.text, config.organism)
    inputs = {name: fingerprint(getattr(config, name)) for name in ("dictionary", "continued")}
    inputs |= {f"model {each.name}": sha256_of_model(each.path) for each in trace.tuned}
    inputs["text"] = sha256_of_text(texts)
    require_own(config.out, "a trace", "summary.json", "fates.parquet", "provenance.json")
    stages = seconds_of(config.organism, config.dictionary, config.continued)

    def work() -> dict[str, int]:
        base = load_model(trace.base)
        text = read_text(base, texts, config.columns, config.read, ("select", "confirm"))
        with Parts() as tell:
            found = study(trace, text, tell)
            write_trace(found, config.out, organism, tell, lambda: stages | tell.seconds)
        return {"n_tokens": text.n_tokens}

    stage(config.out, inputs, asdict(config), work)
    write_and_tell(config.out)


if __name__ == "__main__":
    sys.exit(run(main, Config))
