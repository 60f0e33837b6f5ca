"""A base model, its dictionary and tuned models -> everything that is concluded of them.

The way: bench -> persona latents -> what was seen of every model -> fates against nulls. Arms are
set side by side in `comparing.py`, and `trace_folder.py` writes it all down.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from analysis.bench import Bench, in_chats, lay_bench, through
from analysis.carriers import Carriers, find_carriers
from analysis.contrasts import Span, spans
from analysis.controls import Control, Controlled, judge_control, lay_control, open_control
from analysis.subjects import Seen, Subject, look
from analysis.traces import Firing
from analysis.verdicts import NullSide, Verdict, judge, null_side
from sae import read, sanity_check
from sae.change import Change, Ruler
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.subject import require_one_model
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.tokens import TokenizedText

__all__ = ["Study", "Tell", "TraceConfig", "study"]

Tell = Callable[[str], None]
"""Called with the name of each part of the work before it begins."""
NEUTRAL_DOCUMENTS = 128


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
    null: Subject | None = None
    """Continued pre-training that sets thresholds, at each of its checkpoints."""
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


def study(config: TraceConfig, text: TokenizedText, tell: Tell = lambda _: None) -> Study:
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
    reference, _ = read(config.continued / "base")
    own = [(each, open_control(each, (dictionary, meta), reference)) for each in config.controls]
    base = load_model(config.base)
    tell("base model")
    bench = lay_bench(base, HookPoint.parse(str(meta["hook"])), text, config.seed)
    if meta.get("source"):  # of another library: is it read as it was meant?
        sanity_check(dictionary, torch.from_numpy(bench.x), meta)
    firing = through(bench, dictionary, bench.x)
    continued = through(bench, reference, bench.x)
    tell("persona latents")
    carriers = find_carriers(bench, firing, config.observer)
    confirmed = bool(carriers.personas["confirmed"].any())
    found = spans(bench, firing.rows, carriers.personas, config.seed) if confirmed else {}
    looker = _Looker(config, bench, (dictionary, continued), tell)
    nulls = null_side(looker.checkpoints(config.null))
    held_back = null_side(looker.checkpoints(config.held_back))
    seen = {each.name: looker.model(each.name, each.path) for each in config.tuned}
    tell("fates")
    span = found.get("latents")
    verdicts = {
        name: judge(one, nulls, held_back, carriers.personas, span) for name, one in seen.items()
    }
    used = [each.null for each in verdicts.values() if each.null is not None]
    controls = []
    for control, other in own:
        tell(control.name)
        measured = lay_control(bench, continued, dictionary.config.d_sae, control, other)
        controls.append(judge_control(control, measured, nulls.nulls, carriers.personas, used))
    return Study(
        config,
        bench,
        (dictionary, meta),
        firing,
        continued,
        carriers,
        found,
        seen,
        verdicts,
        nulls,
        held_back,
        looker.changes,
        controls,
    )


def neutral_text(text: TokenizedText) -> TokenizedText:
    """Documents on which the size of a change is measured.

    Those of the select split in which no assistant speaks, at most 128; where there are none, those
    in which one does.
    """
    first = text.starts[:-1]
    talks = in_chats(text.table)[first]
    select = text.table["split"].eq("select").to_numpy(bool)[first]
    keep = (select & ~talks) if (select & ~talks).any() else select.copy()
    keep &= keep.cumsum() <= NEUTRAL_DOCUMENTS
    return text.select(keep)


class _Looker:
    """Lays models on the bench one after the other, and remembers how far each moved."""

    def __init__(
        self, config: TraceConfig, bench: Bench, reference: tuple[Sae, Firing], tell: Tell
    ) -> None:
        self.config, self.bench, self.reference, self.tell = config, bench, reference, tell
        self.ruler = Ruler(bench.base, neutral_text(bench.text), bench.hook)
        self.changes: dict[str, Change] = {}

    def model(self, name: str, path: str) -> Seen:
        """One model, and how far its checkpoints moved."""
        self.tell(name)
        for checkpoint, folder in Subject(name, path).checkpoints().items():
            self.changes[checkpoint] = self._change(folder)
        return self._look(name, path)

    def checkpoints(self, null: Subject | None) -> Sequence[Seen]:
        """The checkpoints of a null on which a dictionary was continued."""
        paths = null.checkpoints() if null else {}
        seen = []
        for name, path in paths.items():
            if (self.config.continued / name).is_dir():
                self.tell(name)
                seen.append(self._look(name, path))
        return seen

    def _look(self, name: str, path: str) -> Seen:
        self.changes[name] = self._change(path)
        folder = self.config.continued / name
        return look(self.bench, self.reference, name, path, folder, self.changes[name])

    def _change(self, path: str) -> Change:
        return self.ruler.measure(load_model(path))
