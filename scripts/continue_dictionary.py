r"""Continues a finished dictionary on other models' activations, each time on the same tokens.

    python -m scripts.continue_dictionary --dictionary D --text A.jsonl --out DIR \
        --models assistant=models/assistant continued_a@00100=models/a/checkpoints/step-100

Every model gets the same run, seed, tokens and added directions, so that the dictionaries in
DIR/NAME differ by the model alone. eval.json of each has its numbers and, under base, those of the
dictionary before. Stopped, the same command goes on where it was.
"""

import sys
from dataclasses import asdict
from functools import partial

from scripts._cli import run
from scripts._continuing import Config, Continuation
from scripts._stage import changes, prepared_stage
from scripts._text import named_models, sha256_of_model

OF_THE_RUN = ("n_added", "judge_documents", "train", "columns", "read")


def main(config: Config) -> None:
    """Continues on every model whose dictionary does not stand there already."""
    models, continuation = named_models(config.models), Continuation(config)
    shared, revision = continuation.inputs, config.read.revision
    what = {name: asdict(config)[name] for name in OF_THE_RUN}
    inputs = {name: shared | {"model": sha256_of_model(models[name], revision)} for name in models}
    todo = [name for name in models if changes(config.out / name, inputs[name], what) != []]
    for name in todo:  # all are looked at before the first is begun
        continuation.open(models[name])
    for name, path in models.items():
        identity = {"input": inputs[name], **what}
        prepare = partial(continuation.work, name, path, identity)
        prepared_stage(config.out / name, inputs[name], what, prepare)


if __name__ == "__main__":
    sys.exit(run(main, Config))
