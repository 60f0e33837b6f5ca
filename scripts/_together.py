"""From the flags of `fit_together` to the job they ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sae.dictionary.config import CrosscoderConfig, SaeConfig, SharedConfig
from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.subject import of_several
from sae.stream.activations import HookPoint
from sae.stream.buffer import Source
from sae.stream.model import LanguageModel, check_pair
from sae.stream.several import DifferenceSource, SideBySideSource
from sae.stream.text import Columns
from sae.stream.tokens import TokenizedText
from scripts._fit import MARKS, Job, RunConfig, TrackConfig
from scripts._recipe import SaeChanges, TrainChanges, run_of
from scripts._source import shared_source, with_shared_outliers
from scripts._stage import require_own
from scripts._text import (
    ReadConfig,
    by_length,
    enough,
    open_model,
    read_text,
    require_hook,
    said_of,
)
from training.evaluate import Evaluation, evaluate_vectors

__all__ = ["Config", "CrosscoderFit", "DifferenceFit", "together_job"]


@dataclass(frozen=True)
class CrosscoderFit:
    """One latent space over all models."""

    shared: SharedConfig | None = None
    """Latents whose decoder rows are the same in every model, the first ones; null for none."""
    n_own: tuple[int, ...] = ()
    """Latents that read and write one model alone, a number for every model; [] for none."""
    kind: Literal["crosscoder"] = "crosscoder"
    """The tag that files and command lines spell out."""


@dataclass(frozen=True)
class DifferenceFit:
    """A plain dictionary of the second model's activations less the first's."""

    kind: Literal["difference"] = "difference"
    """The tag that files and command lines spell out."""


@dataclass(frozen=True)
class Config:
    """What to fit, on which models, and where to put it."""

    models: tuple[str, ...]
    """Folders or hub ids of the models, the base model first; all read its tokens."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them, all mixed."""
    hook: str
    """Where to take the activations, such as blocks.1.hook_resid_post."""
    out: Path
    """Folder that gets the dictionary, its numbers and the run's saved states."""
    of: CrosscoderFit | DifferenceFit
    """What is fitted."""
    recipe: str = "default"
    """Dictionary and run to start from: cache, organism, stories260k or default."""
    sae: SaeChanges = field(default_factory=SaeChanges)
    """What differs from the recipe's dictionary."""
    train: TrainChanges = field(default_factory=TrainChanges)
    """What differs from the recipe's run."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How to read models and text."""
    run: RunConfig = field(default_factory=RunConfig)
    """How to carry the run out."""
    track: TrackConfig = field(default_factory=TrackConfig)
    """Where the numbers go."""

    def __post_init__(self) -> None:
        n, is_difference = len(self.models), isinstance(self.of, DifferenceFit)
        if n < 2 or (is_difference and n > 2):
            wanted = "two, the base model first" if is_difference else "two or more"
            raise ConfigError(f"--models for a {self.of.kind}", f"{n} of them", f"give {wanted}")


def together_job(config: Config, identity: Mapping[str, Any]) -> Job:
    """Loads and checks what the fit needs; writes nothing.

    Args:
        config: The flags.
        identity: What a saved state of this run belongs to.

    Raises:
        ConfigError: The models are no twins, the hook or the recipe does not fit them, or the
            folder holds something else.
        InputError: A model or text is missing or damaged.
    """
    require_own(config.out, "a dictionary", *MARKS)
    models = [open_model(each, config.read, config.run.device) for each in config.models]
    base, hook = models[0], HookPoint.parse(config.hook)
    text = partial(read_text, base, config.text, config.columns, config.read)
    held_out = by_length(text(["confirm"]))
    for each in models:
        check_pair(base, each)
        require_hook(each, held_out, config.hook)
    shape, train = run_of(config.recipe, base.d_in, config.sae, config.train)
    shape = _shape(shape, config.of, len(models))
    read = enough(text(["fit"]), train.n_steps * train.batch_tokens)

    def begin(sample: Tensor) -> Sae:
        dictionary = Sae(shape)
        initialise_(dictionary, sample, train.seed)
        return dictionary

    said = [said_of(each, hook) for each in models]
    return Job(
        out=config.out,
        source=_source(config.of, models, by_length(read), hook),
        sae=shape,
        train=train,
        begin=begin,
        judge=partial(_judge, source=_source(config.of, models, held_out, hook)),
        meta={
            "hook": str(hook),
            "tokenizer_sha256": base.tokenizer_hash,
            **of_several(config.of.kind, said),
        },
        identity=identity,
        run=config.run,
        track=config.track,
        device=base.device,
    )


def _shape(one: SaeConfig, of: CrosscoderFit | DifferenceFit, n_models: int) -> SaeConfig:
    if isinstance(of, DifferenceFit):
        return one
    several = CrosscoderConfig(n_models, of.shared, of.n_own)
    return replace(one, d_in=n_models * one.d_in, crosscoder=several)


def _source(
    of: CrosscoderFit | DifferenceFit,
    models: Sequence[LanguageModel],
    text: TokenizedText,
    hook: HookPoint,
) -> Source:
    """The same tokens of every model: what is an outlier is the base's to say."""
    marked = with_shared_outliers(models[0], text, hook)
    each = [shared_source(model, marked, hook, len(models)) for model in models]
    return DifferenceSource(*each) if isinstance(of, DifferenceFit) else SideBySideSource(each)


def _judge(dictionary: Sae, source: Source) -> Evaluation:
    return evaluate_vectors(dictionary, (source.chunk(i) for i in range(source.n_chunks)))
