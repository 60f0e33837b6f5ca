r"""Continues a finished dictionary on other models' activations, each time on the same tokens.

    python -m scripts.continue_dictionary --dictionary D --text A.jsonl --out DIR \
        --models assistant=models/assistant continued_a@step-100=models/a/checkpoints/step-100

Every model gets the same run, seed, tokens and added directions, so that the dictionaries in
DIR/NAME differ by the model alone. eval.json of each has its numbers and, under base, those of the
dictionary before. Stopped, the same command goes on where it was. Small models are done side
by side, on one thread each.
"""

import sys
from functools import partial

from sae.abreast import Job, how
from scripts._cli import run
from scripts._continuing import Config, Continuation, continue_on
from scripts._meter import Meter
from scripts._stage import changes, stage
from scripts._text import named_models, sha256_of_model


def main(config: Config) -> None:
    """Continues on every model whose dictionary does not stand there already."""
    models, continuation = named_models(config.models), Continuation(config)
    shared, revision, what = continuation.inputs, config.read.revision, continuation.what
    todo: list[Job] = []
    for name, path in models.items():
        inputs = shared | {"model": sha256_of_model(path, revision)}
        if changes(config.out / name, inputs, what) == []:
            stage(config.out / name, inputs, what, dict)
        else:
            todo.append(Job(name, (), partial(continue_on, name, path, inputs)))
    if todo:
        meter = Meter("token")
        common = partial(continuation.read, [models[job.name] for job in todo])
        how(continuation.base.module)(todo, meter.hear, common)
        meter.close()


if __name__ == "__main__":
    sys.exit(run(main, Config))
