"""One dictionary fitted into a folder: resumed where it stood, saved, tracked, judged, written."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sae
from sae.abreast import Tell
from sae.dictionary.config import SaeConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint
from sae.stream.buffer import ActivationBuffer, Source
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from sae.whole import write_json
from scripts._source import BUFFER_BYTES, sample_of
from scripts._stage import flat, git_commit
from scripts._text import watched
from training.config import TrainConfig
from training.evaluate import FIRE_RATE_EDGES, Evaluation, evaluate
from training.interrupt import Interrupt
from training.loop import StepRecord, fit
from training.mirrors import TellTracker, WandbMode
from training.state import TrainState
from training.track import Trackers, open_trackers

__all__ = [
    "MARKS",
    "Job",
    "RunConfig",
    "TrackConfig",
    "fit_into",
    "judge",
    "metrics",
]

MARKS = ("dictionary.safetensors", "state", "metrics.jsonl")
"""Files of which the folder of a dictionary, finished or not, has at least one."""
SAMPLE_TOKENS = 8192


@dataclass(frozen=True)
class TrackConfig:
    """Where the numbers go besides metrics.jsonl and the console."""

    wandb: WandbMode = "off"
    """Mirror to wandb: off, online, offline, or auto, which is online where an API key lies."""


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out; none of it is part of what a run is."""

    save_tokens: int = 2_000_000
    """Tokens between two saved states, besides those at the end and on SIGINT and SIGTERM."""
    device: str = "auto"
    """Where model and dictionary compute; auto is CUDA where there is one."""

    def __post_init__(self) -> None:
        if self.save_tokens < 1:
            raise ConfigError(f"save_tokens={self.save_tokens}", "no interval", "give 1 or more")


@dataclass(frozen=True)
class Job:
    """A dictionary to fit, all that decides its bits, and what its file says of itself."""

    out: Path
    """The dictionary's folder."""
    source: Source
    """Activations."""
    sae: SaeConfig
    """Shape and sparsity of the dictionary fitted."""
    train: TrainConfig
    """The run."""
    begin: Callable[[Tensor], Sae]
    """From a sample of the activations to the dictionary before its first step."""
    judge: Callable[[Sae], Evaluation]
    """Numbers of the finished dictionary on held-out text."""
    meta: Mapping[str, Any]
    """For the dictionary's header, besides what is known here."""
    identity: Mapping[str, Any]
    """What a saved state belongs to: a run is only gone on with under an equal one."""
    run: RunConfig = field(default_factory=RunConfig)
    """How to carry it out."""
    track: TrackConfig = field(default_factory=TrackConfig)
    """Where the numbers go."""
    device: torch.device | str = "cpu"
    """Where the dictionary is fitted."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Further numbers for `eval.json`."""
    sample_tokens: int = SAMPLE_TOKENS
    """About how many vectors `begin` is given."""

    @property
    def states(self) -> Path:
        """Folder of the saved states."""
        return self.out / "state"


def fit_into(job: Job, tell: Tell | None = None) -> dict[str, Any]:
    """Fits, or goes on fitting, and writes the folder of the dictionary.

    The first SIGINT or SIGTERM saves the state and ends the process because of that signal.

    Args:
        job: What to do.
        tell: Hears lines to show, and label, tokens so far, tokens in all and a note after every
            step; None shows them on stderr.

    Returns:
        Facts for the provenance.

    Raises:
        ConfigError: The folder holds the state of another run.
        InputError: A saved state is damaged, or the activations are.
        NumericalError: The loss is not finite.
    """
    state = _state(job)
    dictionary = _first(job, state)
    seen = 0 if state is None else state.n_tokens
    config = dict(job.identity)
    name, total, say = job.out.name, job.train.n_tokens, tell or _said
    console = None if tell is None else TellTracker(tell, name, total)
    trackers, note = open_trackers(job.out, name, config, total, seen, job.track.wandb, console)
    say(f"forelimb: {note}")
    is_failed = True
    try:
        _fit(job, dictionary, state, trackers)
        facts = _write(job, dictionary, trackers, say)
        is_failed = False
    finally:
        trackers.finish(int(is_failed))
    return facts


def _fit(job: Job, dictionary: Sae, state: TrainState | None, trackers: Trackers) -> None:
    """Every step there is left to take, and the state saved when it is due and at the end."""
    if state is not None and state.n_tokens >= job.train.n_tokens:
        return
    record = saved = None
    with Interrupt() as interrupt:
        source = _Stoppable(job.source, interrupt)
        try:
            cursor = None if state is None else state.cursor
            batches = ActivationBuffer(
                source, job.train.batch_tokens, BUFFER_BYTES, job.train.seed, cursor
            )
            for record in fit(dictionary, batches, job.train, state):
                trackers.log(record.row())
                if interrupt.requested:
                    break
                if _is_due(record, job):
                    record.state.save(job.states)
                    saved = record
        except _Stopped:
            pass  # between two steps, where the last record's state still holds
        if record is not None and record is not saved:
            record.state.save(job.states)
        if interrupt.requested:
            trackers.finish(1)


def _is_due(record: StepRecord, job: Job) -> bool:
    every = job.run.save_tokens
    return record.n_tokens // every > (record.n_tokens - job.train.batch_tokens) // every


def _first(job: Job, state: TrainState | None) -> Sae:
    """The dictionary as the run finds it; nothing is written before its sample was seen."""
    if state is None:
        dictionary = job.begin(sample_of(job.source, job.train.seed, job.sample_tokens))
        _clear(job)
        return dictionary.to(job.device)
    dictionary = Sae(job.sae)
    dictionary.load_state_dict(state.weights)
    return dictionary.to(job.device).eval()


def _clear(job: Job) -> None:
    """Makes room for a new run, and writes down which one it is."""
    shutil.rmtree(job.states, ignore_errors=True)
    for name in ("metrics.jsonl", "wandb.json"):
        (job.out / name).unlink(missing_ok=True)
    _note(job, is_finished=False)


def _note(job: Job, is_finished: bool) -> None:
    job.states.mkdir(parents=True, exist_ok=True)
    record = {"is_finished": is_finished, "run": job.identity}
    write_json(job.states / "run.json", record, default=str)


def _state(job: Job) -> TrainState | None:
    """Where to go on; None where there is nothing, or only what a finished run left."""
    if not any(job.states.glob("[0-9]*-step-*")):
        return None
    note = job.states / "run.json"
    do = "repeat the command of that run, or choose a new folder with --out"
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        was, is_finished = dict(flat(record["run"])), record["is_finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the run in {job.out}", f"a damaged {note} ({error})", do) from error
    now = dict(flat(json.loads(json.dumps(job.identity, default=str))))
    differing = sorted(key for key in was | now if was.get(key) != now.get(key))
    if not differing:
        return TrainState.load(job.states)
    if is_finished:
        return None
    found = "; ".join(f"{key} was {was.get(key)}, is {now.get(key)}" for key in differing)
    raise ConfigError(f"to go on with the run in {job.out}", found, do)


def _said(line: str) -> None:
    print(line, file=sys.stderr)


def _write(
    job: Job, dictionary: Sae, trackers: Trackers, say: Callable[[str], None]
) -> dict[str, Any]:
    """Judges the dictionary and writes its folder, the note that it is finished last."""
    n_tokens = job.train.n_steps * job.train.batch_tokens
    folded = dictionary.folded()
    found = job.judge(folded)
    trackers.log(found.row(n_tokens))
    trackers.histogram("eval/fire_rates", found.fire_rate_counts, FIRE_RATE_EDGES, n_tokens)
    own = {
        "n_tokens": n_tokens,
        "git_commit": git_commit(),
        "train": job.train.to_dict(),
        "metrics": {**metrics(found), **job.beside},
    }
    sae.write(job.out, folded, {**job.meta, **own})
    _note(job, is_finished=True)
    shown = {"fvu": found.fvu, "l0": found.l0, "CE recovered": found.ce_recovered}
    known = (f"{name} {value:.3f}" for name, value in shown.items() if not math.isnan(value))
    say(f"forelimb: {job.out}: {', '.join(known)}, dead {found.dead_fraction:.1%}")
    return {"n_tokens": n_tokens, "n_tokens_judged": found.n_tokens}


def judge(
    dictionary: Sae,
    model: LanguageModel,
    text: TokenizedText,
    hook: HookPoint,
    watch: tuple[str, Tell | None] = ("held-out text", None),
) -> Evaluation:
    """Held-out numbers of a dictionary, telling how far they are under a label."""
    label, tell = watch
    with watched(model, label, 4 * text.n_tokens, tell):  # four passes, see `evaluate`
        return evaluate(dictionary, model, text, hook)


def metrics(found: Evaluation) -> dict[str, Any]:
    """Held-out numbers for `eval.json`, with null for what is not a number."""
    plain = asdict(found)
    counts, by_model = plain.pop("fire_rate_counts"), plain.pop("fvu_by_model")
    numbers = {name: each if math.isfinite(each) else None for name, each in plain.items()}
    histogram = {"log10_edges": list(FIRE_RATE_EDGES), "counts": list(counts)}
    several = {"fvu_by_model": list(by_model)} if by_model else {}
    return {**numbers, **several, "fire_rates": histogram}


class _Stopped(Exception):
    """A signal came while the buffer was filled."""


class _Stoppable:
    """A source that can be left between two of its chunks."""

    def __init__(self, source: Source, interrupt: Interrupt) -> None:
        self._source, self._interrupt = source, interrupt
        self.n_chunks, self.d_in, self.n_most = source.n_chunks, source.d_in, source.n_most

    def chunk(self, number: int) -> Tensor:
        if self._interrupt.requested:
            raise _Stopped
        return self._source.chunk(number)
