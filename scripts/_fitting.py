"""From the flags of `fit_dictionary` to the job they ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae
from sae.stream.text import Columns
from scripts._fit import MARKS, Job, RunConfig, TrackConfig, judge
from scripts._recipe import SaeChanges, TrainChanges, run_of
from scripts._source import cache_source, model_source
from scripts._stage import require_own
from scripts._text import ReadConfig, open_model, read_text, require_hook, said_of

__all__ = ["Config", "fit_job"]


@dataclass(frozen=True)
class Config:
    """What to fit, on what, and where to put it."""

    model: str
    """Folder or hub id of the model."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them, all mixed."""
    hook: str
    """Where to take the activations, such as blocks.1.hook_resid_post."""
    out: Path
    """Folder that gets the dictionary, its numbers and the run's saved states."""
    recipe: str = "default"
    """Dictionary and run to start from: cache, organism, stories260k or default."""
    sae: SaeChanges = field(default_factory=SaeChanges)
    """What differs from the recipe's dictionary."""
    train: TrainChanges = field(default_factory=TrainChanges)
    """What differs from the recipe's run."""
    activations: Path | None = None
    """Cache to fit on; None takes the activations from the model as they are needed."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How to read model and text."""
    run: RunConfig = field(default_factory=RunConfig)
    """How to carry the run out."""
    track: TrackConfig = field(default_factory=TrackConfig)
    """Where the numbers go."""


def fit_job(config: Config, identity: Mapping[str, Any]) -> Job:
    """Loads and checks what the fit needs; writes nothing.

    Args:
        config: The flags.
        identity: What a saved state of this run belongs to.

    Raises:
        ConfigError: The hook, the recipe or the cache does not fit the model, or the folder holds
            something else.
        InputError: Model, text or cache is missing or damaged.
    """
    require_own(config.out, "a dictionary", *MARKS)
    model = open_model(config.model, config.read, config.run.device)
    text = partial(read_text, model, config.text, config.columns, config.read)
    held_out = text(["confirm"])
    hook = require_hook(model, held_out, config.hook)
    shape, train = run_of(config.recipe, model.d_in, config.sae, config.train)
    if config.activations is None:
        source = model_source(model, text(["fit"]), hook)
    else:
        source = cache_source(config.activations, model, hook)

    def begin(sample: Tensor) -> Sae:
        dictionary = Sae(shape)
        initialise_(dictionary, sample, train.seed)
        return dictionary

    return Job(
        out=config.out,
        source=source,
        sae=shape,
        train=train,
        begin=begin,
        judge=partial(judge, model=model, text=held_out, hook=hook),
        meta=said_of(model, hook),
        identity=identity,
        run=config.run,
        track=config.track,
        device=model.device,
    )
