"""From the flags of `finetune_dictionary` to a dictionary tuned in memory, and then written."""

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import sae
from sae.dictionary.config import SaeConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.native import own_words
from sae.stream.activations import harvest, outliers
from sae.stream.text import Columns
from scripts import _continuing
from scripts._continuing import Continuation
from scripts._fit import MARKS, SAMPLE_TOKENS, RunConfig, judge, metrics
from scripts._meter import Meter
from scripts._recipe import TrainChanges, changed, continued_train
from scripts._stage import git_commit, require_own
from scripts._text import ReadConfig, require_hook, said_of
from training.config import TrainConfig
from training.continuation import continued
from training.finetune import finetune, finetune_config
from training.interrupt import Interrupt

__all__ = ["Config", "FinetuneChanges", "finetuned", "shared_of"]


@dataclass(frozen=True)
class FinetuneChanges:
    """What differs from a run of a twentieth of the fit's tokens, at the rate of its end."""

    n_tokens: int | None = None
    """Tokens to tune on; they come round again when the text is shorter."""
    batch_tokens: int | None = None
    """Least tokens of one step, whole documents; the model's logits of all are held at a time."""
    lr: float | None = None
    """Peak learning rate of Adam; None: the fit's, as it is where its last twentieth begins."""
    warmup: float | None = None
    """Share of the run over which the rate rises."""
    decay: float | None = None
    """Share of the run, the last, over which the rate falls; None: the whole."""
    grad_clip: float | None = None
    """Largest norm of the gradient."""
    seed: int | None = None
    """Seed of the order of the documents."""


@dataclass(frozen=True)
class Config:
    """What to tune, on which text, and where to put it."""

    dictionary: Path
    """Folder or file of the finished dictionary."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them, all mixed."""
    out: Path
    """Folder of the new dictionary."""
    model: str | None = None
    """Model the dictionary was fitted on; None takes the one it names."""
    judge_documents: int = 64
    """Held-out documents on which it is judged, evenly spaced; all if fewer."""
    train: FinetuneChanges = field(default_factory=FinetuneChanges)
    """What differs from the run derived from the one that fitted the dictionary."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How to read model and text."""
    device: str = "auto"
    """Where model and dictionary compute; auto is CUDA where there is one."""


def shared_of(config: Config) -> Continuation:
    """Dictionary, model, text and run, as they are read for a dictionary that is continued.

    Raises:
        ConfigError: The dictionary does not say what it is of, or is of several models.
        InputError: Dictionary or text is missing or damaged.
    """
    asked = _continuing.Config(
        dictionary=config.dictionary,
        models=(),
        text=config.text,
        out=config.out,
        judge_documents=config.judge_documents,
        base=config.model,
        train=TrainChanges(**asdict(config.train)),
        columns=config.columns,
        read=config.read,
        run=RunConfig(device=config.device),
    )
    return Continuation(asked, "to fine-tune on KL", _train_of, "--model")


def _train_of(meta: Mapping[str, Any], shape: SaeConfig, changes: TrainChanges) -> TrainConfig:
    recorded = meta.get("train")
    fit = continued_train(recorded, TrainChanges() if recorded else changes)
    return changed(finetune_config(fit, shape.d_sae), changes)


def finetuned(config: Config, shared: Continuation) -> Callable[[], dict[str, Any]]:
    """Tunes the dictionary in memory; what is returned writes it.

    The first SIGINT or SIGTERM ends the process because of that signal after the step at hand;
    nothing was written then.

    Args:
        config: The flags.
        shared: From `shared_of`.

    Raises:
        ConfigError: The folder is the dictionary's own or holds something else, or the dictionary
            does not fit the model.
        InputError: The model is missing, its activations are not finite, or another library's
            dictionary does not explain them.
        NumericalError: The loss is not finite.
    """
    if config.out.resolve() in (config.dictionary.resolve(), shared.file.parent.resolve()):
        do = "choose a new folder with --out"
        raise ConfigError(f"--out {config.out}", "the dictionary to fine-tune itself", do)
    require_own(config.out, "a dictionary", *MARKS)
    shared.require_sound()
    model, hook = shared.base, shared.hook
    require_hook(model, shared.held_out, str(hook))
    judged = partial(judge, model=model, text=shared.held_out, hook=hook)
    before = judged(copy.deepcopy(shared.dictionary).to(model.device))
    dictionary = continued(shared.dictionary, _sample(shared)).to(model.device)
    n_tokens = _tune(dictionary, shared)
    folded = dictionary.folded()
    after = judged(folded)
    for name in ("kl", "ce_recovered", "fvu", "l0"):
        was, now = getattr(before, name), getattr(after, name)
        print(f"forelimb: {name} {was:.4f} before, {now:.4f} after", file=sys.stderr)
    meta = {
        **own_words(shared.meta),
        **said_of(model, hook),
        "n_tokens": (shared.meta.get("n_tokens") or 0) + n_tokens,
        "git_commit": git_commit(),
        "finetuned": {"on": "kl", "n_tokens": n_tokens, "train": shared.train.to_dict()},
        "metrics": {**metrics(after), "before": metrics(before)},
    }
    return partial(_write, config.out, folded, meta)


def _write(out: Path, dictionary: Sae, meta: Mapping[str, Any]) -> dict[str, Any]:
    sae.write(out, dictionary, meta)
    facts = {"n_tokens": meta["finetuned"]["n_tokens"]}
    return {**facts, "n_tokens_judged": meta["metrics"]["n_tokens"]}


def _tune(dictionary: Sae, shared: Continuation) -> int:
    """Tunes in place; tokens it took."""
    meter, n_tokens = Meter("token"), 0
    with Interrupt() as interrupt:
        try:
            for record in finetune(
                dictionary, shared.base, shared.unmarked_text, shared.hook, shared.train
            ):
                n_tokens = record.n_tokens
                note = f"kl {record.loss.terms['kl'].item():.4f} fvu {record.metrics['fvu']:.4f}"
                meter("fine-tuning", n_tokens, shared.train.n_tokens, note)
                if interrupt.requested:
                    break
        finally:
            meter.close()
    return n_tokens


def _sample(shared: Continuation) -> Float[Tensor, "n d_in"]:
    """About as many vectors as begin a fit, for the scale of the inputs; outliers left out."""
    text = shared.unmarked_text
    kept = torch.from_numpy(~text.table["is_special"].to_numpy(dtype=bool))
    found, n = [], 0
    for rows, x in harvest(shared.base, text, [shared.hook]):
        found.append(x[shared.hook].cpu()[kept[rows]])
        n += len(found[-1])
        if n >= SAMPLE_TOKENS:
            break
    x = torch.cat(found)
    return x[~outliers(x)]
