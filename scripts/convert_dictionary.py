r"""Writes a dictionary in another library's format, or another library's in this project's.

    python -m scripts.convert_dictionary SOURCE OUT --to saelens

SOURCE is a folder or file of this project, SAELens, dictionary_learning, sparsify, Gemma Scope or
Llama Scope, a crosscoder of science-of-finetuning, which is written as this project's alone, or
hf://ORGANISATION/REPOSITORY/FOLDER@REVISION. Latents and reconstructions stay what they are.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sae
from sae.errors import ConfigError
from sae.formats import hub, located, recognise, writable
from sae.formats.native import own_words
from scripts._cli import run
from scripts._converting import Config
from scripts._stage import fingerprint, prepared_stage, require_own


def main(config: Config) -> None:
    """Converts unless that has been done already, and sends the result where that is asked."""
    form, place = writable(config.to), located(config.source)
    found, file = recognise(place)
    if file.parent.resolve() == config.out.resolve():
        raise ConfigError(f"{config.out}", "the dictionary itself", "choose another folder")
    require_own(config.out, f"a {config.to} dictionary", form.weights)

    def prepare() -> Callable[[], dict[str, Any]]:
        dictionary, meta = sae.read(place, config.given)

        def work() -> dict[str, Any]:
            sae.write(config.out, dictionary, own_words(meta), config.to)
            return {"from": found.name, "to": config.to}

        return work

    written = replace(config, upload=None)
    prepared_stage(config.out, {"dictionary": fingerprint(place)}, written, prepare)
    if config.upload is not None:
        print(f"forelimb: sent to {hub.upload(config.out, config.upload)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main, Config))
