"""A base model, its dictionary and tuned models -> everything that is concluded of them.

The way: bench -> persona latents -> what was seen of every model -> fates against nulls. Arms are
set side by side in `comparing.py`, and `trace_folder.py` writes it all down.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch

from analysis.fates.choosing import BY_CHANGE, Chooser
from analysis.fates.controls import Control, Controlled, judge_control, lay_control, open_control
from analysis.fates.subjects import Reference, Seen, Subject, look, open_continued, with_scaling
from analysis.fates.verdicts import NullSide, Verdict, judge, null_side, with_subspace
from analysis.latents.bench import Bench, lay_bench, through
from analysis.latents.effects import lay_effects
from analysis.latents.traces import Firing
from analysis.personas.carriers import Carriers, dialects_of, find_carriers
from analysis.personas.contrasts import Span, spans
from analysis.study.experiments.plan import Plan
from sae import read, sanity_check
from sae.abreast import Job, how
from sae.change import Change, Ruler, neutral_text
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.subject import require_models, require_one_model
from sae.stream.activations import HookPoint
from sae.stream.model import LanguageModel, check_pair, load_model
from sae.stream.tokens import TokenizedText

__all__ = ["Evidence", "Study", "Tell", "TraceConfig", "judged", "study"]

Tell = Callable[..., None]
"""Called with the name of each part of the work before it begins, and within a part once more with
the name and a note."""
MODELS = "models"


@dataclass(frozen=True)
class TraceConfig:
    """Which models are traced, against which nulls."""

    base: str
    """Folder or hub id of the base model."""
    dictionary: Path
    """Dictionary fitted on the base model."""
    continued: Path
    """Folder of continued dictionaries: `base`, and one for every tuned model and null checkpoint,
    named NAME or NAME@CHECKPOINT."""
    tuned: tuple[Subject, ...]
    """The tuned models, the one that the question is about first."""
    nulls: tuple[Subject, ...] = ()
    """Runs of continued pre-training that set thresholds, at each of their checkpoints."""
    held_back: Subject | None = None
    """Continued pre-training on which error rates are measured; it sets no threshold."""
    pole: str | None = None
    """Which of the tuned models learned the task from random weights: 0 of the reuse index."""
    observer: Path | None = None
    """What an ideal observer knows of every token, where the text comes from an organism."""
    seed: int = 0
    """Of resampling blocks, resamples and random subspaces."""
    controls: tuple[Control, ...] = ()
    """Further dictionaries of the base model, in which nothing but the dictionary changed."""
    plan: Plan | None = None
    """Which arms belong to an experiment; None for models from elsewhere."""
    effects: int = 16
    """Tokens a latent on which it is ablated and steered in every model; 0 leaves effects out."""


@dataclass(frozen=True, eq=False)
class Study:
    """What was seen and judged, before it is written."""

    config: TraceConfig
    """Of what."""
    bench: Bench
    """The held-out tokens."""
    dictionary: tuple[Sae, Mapping[str, object]]
    """The base dictionary, and what it says of itself."""
    firing: Firing
    """The base dictionary on the base model."""
    continued: Firing
    """The dictionary continued on the base's own activations, on the base model."""
    carriers: Carriers
    """Persona latents."""
    spans: Mapping[str, Span]
    """Spans of personas; empty where no persona latent was confirmed."""
    seen: Mapping[str, Seen]
    """By tuned model."""
    verdicts: Mapping[str, Verdict]
    """By tuned model."""
    nulls: NullSide
    """The null that sets thresholds."""
    held_back: NullSide
    """The null that measures error rates."""
    changes: Mapping[str, Change]
    """How far every model and checkpoint moved from the base, on neutral text."""
    controls: Sequence[Controlled] = ()
    """What is said of dictionaries on the base's own activations."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of all models, before anything is judged."""

    bench: Bench
    """The held-out tokens."""
    meta: Mapping[str, object]
    """What the base dictionary says of itself."""
    reference: Reference
    """The base dictionary, and it continued on the base's own activations."""
    carriers: Carriers
    """Persona latents."""
    laid: Mapping[str, Sequence[Seen]]
    """Models by their part: "tuned", "null" and "held_back"."""
    changes: Mapping[str, Change]
    """How far every model moved."""


def judged(
    config: TraceConfig,
    evidence: Evidence,
    controls: Sequence[tuple[Control, Sae]],
    chooser: Chooser,
    tell: Tell = lambda *_: None,
) -> Study:
    """The fates of every tuned model, and what is said of controls.

    Args:
        config: Which models.
        evidence: What was seen of them.
        controls: Further dictionaries of the base model.
        chooser: Which null a tuned model is held against.
        tell: Hears what is being done.
    """
    bench, reference, carriers = evidence.bench, evidence.reference, evidence.carriers
    nulls, held_back = (null_side(evidence.laid[name]) for name in ("null", "held_back"))
    seen = {each.name: each for each in evidence.laid["tuned"]}
    tell("fates")
    confirmed = bool(carriers.personas["confirmed"].any())
    told = None if config.observer is None else dialects_of(config.observer, bench.tokens)
    rows, found = reference.firing.rows, dict[str, Span]()
    if confirmed:
        found = spans(bench, rows, carriers.personas, config.seed, told)
    span = found.get("latents")
    verdicts = {
        name: judge(one, chooser, (nulls, held_back), carriers.personas, span)
        for name, one in seen.items()
    }
    for name, each in verdicts.items():
        each = with_subspace(bench, reference.continued, seen[name], each, nulls)
        fates = with_scaling(bench, reference.continued, seen[name], each.fates)
        verdicts[name] = replace(each, fates=carriers.with_dialects(fates))
    used = [each.null for each in verdicts.values() if each.null is not None]
    judged_controls = []
    for control, other in controls:
        tell(control.name)
        measured = lay_control(bench, reference, control, other)
        judged_controls.append(
            judge_control(control, measured, nulls.nulls, carriers.personas, used)
        )
    return Study(
        config,
        bench,
        (reference.dictionary, evidence.meta),
        reference.firing,
        reference.continued,
        carriers,
        found,
        seen,
        verdicts,
        nulls,
        held_back,
        evidence.changes,
        judged_controls,
    )


def study(config: TraceConfig, text: TokenizedText, tell: Tell = lambda *_: None) -> Study:
    """Looks at every model on the same tokens and judges the tuned ones.

    Args:
        config: Which models.
        text: Tokens of the splits select and confirm; documents of the select split without an
            assistant are the neutral text.
        tell: Hears what is being done.

    Raises:
        ConfigError: A dictionary does not say its hook or is of several models, a model is not of
            the base's shape, a control is not of the base model.
        InputError: A model, dictionary or label is missing, or a dictionary of another library
            does not explain the base model's activations.
    """
    dictionary, meta = read(config.dictionary)
    require_one_model(meta, f"to trace {config.dictionary}")
    if not meta.get("hook"):
        raise ConfigError(f"{config.dictionary}", "no hook in it", "fit it with fit_dictionary")
    base = load_model(config.base)
    told = [(base.name, base.weights_sha256)]
    require_models(config.dictionary, [meta], told, "name its model as --cast.base")
    own = open_continued(config.continued / "base", dictionary, {"hook": meta["hook"]}, base)
    controls = [(each, open_control(each, (dictionary, meta), own[0])) for each in config.controls]
    tell("base model")
    side = cache(partial(_BaseSide, config, (base, text), (dictionary, meta), own))
    carriers, laid, changes = _looked_at(config, base, side, tell)
    evidence = Evidence(side().bench, meta, side().reference, carriers, laid, changes)
    return judged(config, evidence, controls, BY_CHANGE, tell)


class _BaseSide:
    """The base model's side of the bench, which is the same for every model laid there."""

    def __init__(
        self,
        config: TraceConfig,
        read_by: tuple[LanguageModel, TokenizedText],
        base: tuple[Sae, Mapping[str, object]],
        held: tuple[Sae, Mapping[str, object]],
    ) -> None:
        self.config, (dictionary, meta) = config, base
        own, self.beside = held
        model, text = read_by
        self.bench = lay_bench(model, HookPoint.parse(str(meta["hook"])), text, config.seed)
        if meta.get("source"):  # of another library: is it read as it was meant?
            sanity_check(dictionary, torch.from_numpy(self.bench.x), meta)
        fitted, continued = (through(self.bench, each, self.bench.x) for each in (dictionary, own))
        self.reference = Reference(dictionary, fitted, continued, own)
        self.ruler = Ruler(model, neutral_text(text), self.bench.hook)
        n, n_tokens = self.reference.n, config.effects
        lay = partial(lay_effects, self.bench, continued, n, n_tokens, config.seed)
        self.effects = lay() if n_tokens else None

    def carriers(self) -> Carriers:
        """Persona latents of the base dictionary."""
        return find_carriers(self.bench, self.reference.firing, self.config.observer)

    def look(
        self, name: str, path: str, along: Mapping[str, str]
    ) -> tuple[Seen, dict[str, Change]]:
        """One model, and how far it and the checkpoints `along` its way moved."""
        changes = {each: self.ruler.measure(load_model(at)) for each, at in along.items()}
        model = load_model(path)
        check_pair(self.bench.base, model)
        changes[name] = self.ruler.measure(model)
        folder, moved = self.config.continued / name, (changes[name], self.effects)
        continued, _ = open_continued(folder, self.reference.dictionary, self.beside, model)
        return look(self.bench, self.reference, name, model, continued, moved), changes


_Laid = tuple[str, str, Mapping[str, str]]
"""Name and path of a model, and the checkpoints along its way whose change is measured too."""


def _looked_at(
    config: TraceConfig, base: LanguageModel, side: Callable[[], _BaseSide], tell: Tell
) -> tuple[Carriers, dict[str, list[Seen]], dict[str, Change]]:
    """Persona latents, every model by its part, and how far all moved; small ones side by side."""
    parts: dict[str, list[_Laid]] = {
        "null": _rungs(config.nulls, config.continued),
        "held_back": _rungs((config.held_back,), config.continued),
        "tuned": [(each.name, each.path, each.checkpoints()) for each in config.tuned],
    }
    jobs = [Job("personas", (), _find)]
    for part, models in parts.items():
        jobs += [Job(f"{part} {each[0]}", (), partial(_look, *each)) for each in models]
    found = how(base.module)(jobs, tell, side)
    carriers = found.pop("personas")
    changes = {name: each for _, moved in found.values() for name, each in moved.items()}
    laid = {
        part: [found[f"{part} {name}"][0] for name, *_ in models] for part, models in parts.items()
    }
    return carriers, laid, changes


def _rungs(nulls: Sequence[Subject | None], continued: Path) -> list[_Laid]:
    """The checkpoints of nulls on which a dictionary was continued."""
    rungs = (null.rungs(continued).items() for null in nulls if null)
    return [(name, path, {}) for each in rungs for name, path in each]


def _find(side: _BaseSide, _: object, tell: Tell) -> Carriers:
    tell(MODELS, "persona latents")
    return side.carriers()


def _look(
    name: str, path: str, along: Mapping[str, str], side: _BaseSide, _: object, tell: Tell
) -> tuple[Seen, dict[str, Change]]:
    tell(MODELS, name)
    return side.look(name, path, along)
