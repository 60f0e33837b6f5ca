"""From the flags of `continue_dictionary` to one job a model, all on the same tokens."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

import sae
from sae import sanity_check
from sae.abreast import Tell
from sae.dictionary.config import SaeConfig
from sae.errors import ConfigError
from sae.formats import located, recognise
from sae.formats.scales import with_unit_rows
from sae.formats.subject import require_one_model
from sae.stream.activations import HookPoint, harvest
from sae.stream.model import LanguageModel, check_pair
from sae.stream.text import Columns
from sae.stream.tokens import TokenizedText
from scripts._fit import MARKS, Job, RunConfig, TrackConfig, fit_into, judge, metrics
from scripts._recipe import TrainChanges, continued_train
from scripts._source import CONTINUED_SAMPLE_TOKENS, shared_source, with_shared_outliers
from scripts._stage import fingerprint, prepared_stage, require_own
from scripts._text import (
    ReadConfig,
    by_length,
    enough,
    evenly,
    open_model,
    read_text,
    require_hook,
    said_of,
    sha256_of_model,
    sha256_of_text,
)
from training.config import TrainConfig
from training.continuation import continued
from training.optim import width_lr

__all__ = ["Config", "Continuation", "TrainOf", "continue_on"]
GENTLY = 0.25  # of the rate of the run that fitted the dictionary
OF_THE_RUN = ("n_added", "judge_documents", "train", "columns", "read")

TrainOf = Callable[[Mapping[str, Any], SaeConfig, TrainChanges], TrainConfig]
"""From what a dictionary says, its shape and the changes to the run that fitted it, to a run."""


def _continued(meta: Mapping[str, Any], shape: SaeConfig, changes: TrainChanges) -> TrainConfig:
    """The run that fitted the dictionary, gentler where no rate is given.

    At the rate that fitted it latents change places that nothing happened to.
    """
    run = continued_train(meta.get("train"), changes)
    if changes.lr is not None:
        return run
    return replace(run, lr=GENTLY * (width_lr(shape.d_sae) if run.lr is None else run.lr))


@dataclass(frozen=True)
class Config:
    """What to continue, on which models, and where to put it."""

    dictionary: Path
    """Folder or file of the finished dictionary."""
    models: tuple[str, ...]
    """Tuned models, each a folder or hub id, or NAME=FOLDER to name what it gets below `out`."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them, all mixed."""
    out: Path
    """Folder that gets one dictionary folder a model, under the model's name."""
    n_added: int = 64
    """Latents added for each model, which start at what the dictionary misses of it."""
    judge_documents: int = 64
    """Held-out documents on which every dictionary is judged, evenly spaced; all if fewer."""
    base: str | None = None
    """Model the dictionary was fitted on; None takes the one it names."""
    train: TrainChanges = field(default_factory=TrainChanges)
    """What differs from the run that fitted the dictionary, at a quarter of its rate."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How to read model and text."""
    run: RunConfig = field(default_factory=RunConfig)
    """How to carry the runs out."""
    track: TrackConfig = field(default_factory=TrackConfig)
    """Where the numbers go."""

    def __post_init__(self) -> None:
        if self.n_added < 0:
            raise ConfigError(f"n_added={self.n_added}", "a negative number", "give 0 or more")
        if self.judge_documents < 1:
            found = f"judge_documents={self.judge_documents}"
            raise ConfigError(found, "nothing to judge on", "give 1 or more")


class Continuation:
    """What all models share: dictionary, run, tokens; these are read when they are first needed.

    Text is tokenized with the base model's tokenizer and template, and its outliers are left out
    for all, so that every model sees the same tokens in the same order.

    Args:
        config: The flags.
        purpose: What the dictionary is wanted for, in words.
        train_of: The run.
        flag: By which the base model is named, for messages.

    Raises:
        ConfigError: The dictionary does not say what it is of, is of several models, or does not
            fit the base model.
        InputError: Dictionary, base model or text is missing or damaged.
    """

    def __init__(
        self,
        config: Config,
        purpose: str = "to continue",
        train_of: TrainOf = _continued,
        flag: str = "--base",
    ) -> None:
        self.config, self._flag, self._is_sound = config, flag, False
        self.file = recognise(located(config.dictionary))[1]
        found, self.meta = sae.read(self.file)
        require_one_model(self.meta, f"{purpose} {config.dictionary}")
        self.dictionary = with_unit_rows(found)
        self.base_name = config.base or self.meta["model"]
        if self.base_name is None:
            do = "name the one it was fitted on"
            raise ConfigError(flag, "a dictionary that names no model", do)
        if self.meta["hook"] is None:
            asked = f"the hook of {config.dictionary}"
            raise ConfigError(asked, "a dictionary without one", "write it anew with its hook")
        self.hook = HookPoint.parse(self.meta["hook"])
        self.train = train_of(self.meta, self.dictionary.config, config.train)

    @property
    def inputs(self) -> dict[str, str]:
        """Hashes of what is shared."""
        return {
            "dictionary": fingerprint(self.file),
            "base": sha256_of_model(self.base_name, self._revision),
            "text": sha256_of_text(self.config.text),
        }

    @property
    def what(self) -> dict[str, Any]:
        """What the flags say of every run, besides its inputs."""
        return {name: each for name, each in asdict(self.config).items() if name in OF_THE_RUN}

    @property
    def _revision(self) -> str | None:
        return self.config.read.revision if self.config.base else self.meta["revision"]

    @cached_property
    def base(self) -> LanguageModel:
        """The model the dictionary was fitted on, seen to be it."""
        read = replace(self.config.read, revision=self._revision)
        base = open_model(self.base_name, read, self.config.run.device)
        found = {"d_in": base.d_in, "tokenizer_sha256": base.tokenizer_hash}
        found["model_sha256"] = base.weights_sha256
        told = {**self.meta, "d_in": self.dictionary.config.d_in}
        for name, value in found.items():
            if told.get(name) not in (None, value):
                asked = f"{base.name} as the model of {self.config.dictionary}"
                do = f"name the model it was fitted on with {self._flag}"
                raise ConfigError(asked, f"{name} {value}, not {told[name]}", do)
        return base

    def _text(self, split: str) -> TokenizedText:
        config = self.config
        return read_text(self.base, config.text, config.columns, config.read, [split])

    @cached_property
    def held_out(self) -> TokenizedText:
        """What the dictionaries are judged on."""
        return by_length(evenly(self._text("confirm"), self.config.judge_documents))

    @cached_property
    def unmarked_text(self) -> TokenizedText:
        """What they are fitted on: no more of it than one run reads."""
        text = enough(self._text("fit"), self.train.n_steps * self.train.batch_tokens)
        return by_length(text)

    @cached_property
    def text(self) -> TokenizedText:
        """The same, with what is an outlier for the base marked."""
        return with_shared_outliers(self.base, self.unmarked_text, self.hook)

    def require_sound(self) -> None:
        """Sees, once, that another library's dictionary explains the base model.

        Raises:
            InputError: It does not.
        """
        if self.meta.get("source") and not self._is_sound:
            text = evenly(self.held_out, 32)
            kept = torch.from_numpy(~text.table["is_special"].to_numpy(bool))
            with torch.no_grad():
                found = [x[self.hook].cpu() for _, x in harvest(self.base, text, [self.hook])]
            sanity_check(self.dictionary, torch.cat(found)[kept], self.meta)
            self._is_sound = True

    def open(self, path: str) -> LanguageModel:
        """A tuned model, once it is seen to be a twin of the base model.

        Raises:
            ConfigError: Its tokenizer, width or depth differs.
            InputError: It is missing or damaged, its activations are not finite, or another
                library's dictionary does not explain those of the base model.
        """
        self.require_sound()
        model = open_model(path, self.config.read, self.config.run.device)
        check_pair(self.base, model)
        require_hook(model, self.held_out, str(self.hook))
        return model

    def read(self, paths: Sequence[str]) -> "Continuation":
        """Itself, once all is read that models share, so that no process reads it again.

        Args:
            paths: The models, all of which are looked at before the first is begun.

        Raises:
            ConfigError: As `open`.
            InputError: As `open`.
        """
        for each in paths:
            self.open(each)
        _ = self.text
        return self

    def work(
        self, name: str, path: str, identity: Mapping[str, Any], tell: Tell
    ) -> Callable[[], dict[str, Any]]:
        """What is to be done for one model, checked.

        Args:
            name: What the model's dictionary is called.
            path: Folder or hub id of the model.
            identity: What its run belongs to.
            tell: Hears lines, and how far each part is.

        Raises:
            ConfigError: As `open`, or the folder holds something else.
            InputError: As `open`.
        """
        config, out = self.config, self.config.out / name
        require_own(out, "a dictionary", *MARKS)
        model = self.open(path)
        width = self.dictionary.config.d_sae
        judged = partial(judge, model=model, text=self.held_out, hook=self.hook)
        begun = copy.deepcopy(self.dictionary).to(model.device)
        before = judged(begun, watch=(f"{name}: held-out text, before", tell))
        job = Job(
            out=out,
            source=shared_source(model, self.text, self.hook),
            sae=replace(self.dictionary.config, d_sae=width + config.n_added),
            train=self.train,
            begin=lambda x: continued(self.dictionary, x, config.n_added, self.train.seed),
            judge=partial(judged, watch=(f"{name}: held-out text", tell)),
            meta={**said_of(model, self.hook), "base_model": self.base.name, "base_d_sae": width},
            identity=identity,
            run=config.run,
            track=config.track,
            device=model.device,
            beside={"base": metrics(before)},
            sample_tokens=CONTINUED_SAMPLE_TOKENS,
        )
        return partial(fit_into, job, tell)


def continue_on(
    name: str,
    path: str,
    inputs: Mapping[str, str],
    continuation: Continuation,
    _: Mapping[str, Any],
    tell: Tell,
) -> None:
    """Fits the dictionary of one model into its folder.

    Args:
        name: What it is called below `out`.
        path: Folder or hub id of the model.
        inputs: Hashes of all that it comes from.
        continuation: What all models share.
        tell: Hears lines, and how far each part is.

    Raises:
        ConfigError: As `Continuation.work`.
        InputError: As `Continuation.work`.
        NumericalError: The loss is not finite.
    """
    what = continuation.what
    prepare = partial(continuation.work, name, path, {"input": inputs, **what}, tell)
    prepared_stage(continuation.config.out / name, inputs, what, prepare)
