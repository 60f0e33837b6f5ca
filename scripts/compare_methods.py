r"""Says whether a crosscoder and a dictionary of the difference agree with a trace.

    python -m scripts.compare_methods --trace runs/demo/trace --continued runs/demo/continued \
        --organism runs/demo/organism --crosscoder runs/demo/crosscoder \
        --difference runs/demo/difference --out runs/demo/agreement

Both are fitted by `fit_together` on the base model and one tuned model, in that order, at the
trace's hook. Prints a table and writes agreement.json and agreement.parquet. Models from elsewhere
are named as for trace_personas: `--cast.base B --cast.tuned [assistant=A] --text T.jsonl`.
"""

import sys
from dataclasses import asdict

from scripts._agreeing import Config, agreed, lines_of, pair_of
from scripts._cast import texts_of
from scripts._cli import run
from scripts._stage import fingerprint, prepared_stage, require_own
from scripts._text import sha256_of_model, sha256_of_text


def main(config: Config) -> None:
    """Compares unless the folder is up to date, and prints the table."""
    require_own(config.out, "an agreement", "agreement.json", "agreement.parquet")
    names = ("trace", "continued", "crosscoder", "difference")
    inputs = {name: fingerprint(getattr(config, name)) for name in names}
    for name, model in zip(("base", "tuned"), pair_of(config), strict=True):
        inputs[f"model {name}"] = sha256_of_model(model)
    inputs["text"] = sha256_of_text(texts_of(config.text, config.organism))
    prepared_stage(config.out, inputs, asdict(config), lambda: agreed(config))
    print("\n".join(lines_of(config.out)))


if __name__ == "__main__":
    sys.exit(run(main, Config))
