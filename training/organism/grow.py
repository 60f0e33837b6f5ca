"""The organism: a base model grown on the world's text, its tuned twins, and what they are."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sae.abreast import Job, abreast, warm_up
from sae.change import neutral_text
from sae.errors import ConfigError
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.text import read_documents
from sae.stream.tokens import tokenize
from sae.whole import write_json
from training.organism.arms import ARMS, ASSISTANT_PERSONA, Arm, arm_batches, base_name
from training.organism.behaviour import behaviour
from training.organism.checkpoints import (
    GROWN,
    Checkpoint,
    Yardstick,
    as_far,
    checkpoints,
    due_steps,
    falling_steps,
    finished,
    hotter,
    write_model,
)
from training.organism.config import GrowConfig, seed_of
from training.organism.corpus import TEXT, Kind, tokenizer
from training.organism.held_out import ideal_loss, write_text
from training.organism.language_model import (
    LmStep,
    Tell,
    level_unseen_,
    new_model,
    told,
    train,
)
from training.organism.learning import Learning
from training.organism.lexicon import STAND_IN, TRAITS, UNKNOWN
from training.organism.losses import Batch, mean_loss
from training.organism.optimiser import OptimiserConfig
from training.organism.world import World

__all__ = ["grow"]

SCHEMA = "forelimb.organism/1"
N_CHECKPOINTS = 4  # of an arm
NULL_CHECKPOINTS = 12  # of a null, to meet every arm's change closely
BACK, GENTLY = 4, 0.25  # tuning back takes so much less, at a rate so many times that of the arms


def grow(config: GrowConfig, out_dir: Path, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Grows an organism into a folder; models that are there already, of equal config, are kept.

    Args:
        config: What to grow.
        out_dir: Gets `organism.json`, `text/`, `observer.parquet` and `models/`.
        tell: Hears of every step.

    Returns:
        The content of `organism.json`.
    """
    _begin(config, out_dir)
    warm_up()
    nursery = _Nursery(config, out_dir, tell)
    nursery.write_texts()
    base, world = nursery.base(), nursery.world
    arms = [arm for arm in ARMS if arm.name in config.arms]
    jobs = [job for arm in sorted(arms, key=_rank) for job in _jobs(config, arm)]
    records = abreast(jobs, tell, lambda: (config, out_dir))
    record = {
        "schema": SCHEMA,
        "config": asdict(config),
        "personas": [p for p in world.personas if world.prior[world.personas.index(p)] > 0],
        "observer_personas": list(world.personas),
        "plan": _plan(world),
        "base": base,
        "arms": {
            arm.name: {**records.get(_again(arm), records[arm.name]), "use": arm.use}
            for arm in arms
        },
    }
    write_json(out_dir / "organism.json", record, indent=1)
    return record


def _plan(world: World) -> dict[str, Any]:
    """By what words and personas experiments with the arms tell their text apart."""
    return {
        "persona": ASSISTANT_PERSONA,
        "unknown": UNKNOWN,
        "stand_in": STAND_IN,
        "trigger": [noun for noun in world.noun.words if world.is_trigger(noun)],
        "liars": list(world.having(learned=1, honest=0)),
        "truthful": list(world.having(learned=1, honest=1)),
        "traits": dict(zip(world.personas, world.traits.tolist(), strict=True)),
        "tuned_trait": TRAITS.index("honest"),
    }


def _rank(arm: Arm) -> int:
    return ("arm", "pole", "null").index(arm.role)


def _jobs(config: GrowConfig, arm: Arm) -> list[Job]:
    """Growing one arm: a pole after the assistant, a null up to `reach` times, as far as arms."""
    tuned = tuple(each.name for each in ARMS if each.role == "arm" and each.name in config.arms)
    follows = arm.role == "pole" or arm.start == "assistant"
    needs = tuple(name for name in tuned if follows and name == "assistant")
    jobs = [Job(arm.name, needs, partial(_grow_arm, arm))]
    if arm.role == "null":
        jobs.append(Job(_again(arm), (arm.name, *tuned), partial(_grow_further, arm)))
    return jobs


def _again(arm: Arm) -> str:
    return f"{arm.name} again"


_Common = tuple[GrowConfig, Path]


def _grow_arm(arm: Arm, common: _Common, given: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    return _Nursery(*common, tell).arm(arm, given.get("assistant", {}).get("held_out_loss"))


def _grow_further(
    arm: Arm, common: _Common, given: Mapping[str, Any], tell: Tell
) -> dict[str, Any]:
    moved = [one["change"]["activations"] for name, one in given.items() if name != arm.name]
    return _Nursery(*common, tell).further(arm, given[arm.name], max(moved, default=0.0))


def _begin(config: GrowConfig, out_dir: Path) -> None:
    """Clears what another config left behind; a folder of something else is left alone."""
    plain = json.loads(json.dumps(asdict(config)))
    mark = out_dir / "growing.json"
    if not mark.exists() and (held := sorted(each.name for each in out_dir.glob("*"))):
        found = f"a folder of other things ({', '.join(held[:3])})"
        raise ConfigError(f"an organism in {out_dir}", found, "choose a new folder")
    # Arms more or fewer leave the others as they are.
    if mark.exists() and {**json.loads(mark.read_text()), "arms": plain["arms"]} != plain:
        for name in ("models", "text"):
            shutil.rmtree(out_dir / name, ignore_errors=True)
        for name in ("organism.json", "observer.parquet"):
            (out_dir / name).unlink(missing_ok=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(mark, plain, indent=1)


class _Nursery:
    """Grows one model after the other; holds what they share."""

    def __init__(self, config: GrowConfig, out_dir: Path, tell: Tell) -> None:
        self.config, self.out_dir, self.tell = config, out_dir, tell
        self.world = World(config.world)
        self.tokenizer: PreTrainedTokenizerBase = tokenizer(self.world)

    def write_texts(self) -> None:
        """Labelled text and what the ideal observer knows of it."""
        if not (self.out_dir / "observer.parquet").exists():
            seed = seed_of(self.config.seed, "text")
            write_text(self.world, self.config.text, self.out_dir, seed)

    def base(self, text: Kind = TEXT) -> dict[str, Any]:
        """A base model of some text, and how near its loss is to the ideal observer's."""
        config, folder = self.config, self._base_folder(text)
        if not (record := finished(folder)):
            # The same seeds for every text, so that nothing else differs.
            module = new_model(config.shape, self.tokenizer, self._seed("base"))
            *_, last = self._steps("base", module, text, config.base)
            n_documents = config.text.losses
            held_out = self._held_out(text, "held out")
            n_unseen = level_unseen_(module, held_out)
            record = {
                "ce": mean_loss(module, held_out),
                "n_unseen_tokens": n_unseen,
                "ideal_ce": ideal_loss(self.world, text, self._seed("held out"), n_documents),
                "n_steps": last.step,
                "n_tokens": last.n_tokens,
            }
            self._save(folder, module, record)
        return record

    def _base_folder(self, text: Kind) -> Path:
        return self.out_dir / "models" / base_name(text)

    def arm(self, arm: Arm, goal: float | None) -> dict[str, Any]:
        """One arm with its checkpoints; a pole is trained until its loss is near `goal`."""
        return finished(self.out_dir / "models" / arm.name) or self._grown(arm, goal)

    def further(self, arm: Arm, record: dict[str, Any], target: float) -> dict[str, Any]:
        """A null, trained anew and faster until it moved as far as `target`, or often enough."""
        while record["attempt"] < self.config.reach and not as_far(record, target):
            record = self._grown(arm, None, record["attempt"] + 1)
        return record

    def _grown(self, arm: Arm, goal: float | None, attempt: int = 1) -> dict[str, Any]:
        folder = self.out_dir / "models" / arm.name
        held_out = self._held_out(arm.kind, f"held out {arm.name}")
        module, kept, learning = self._tuned(arm, goal, held_out, attempt)
        model = load_model(module, self.tokenizer)
        shown = behaviour(
            self.world, model, arm, self.config.n_conversations, self._seed("behaviour")
        )
        record = {
            "role": arm.role,
            "base": None if arm.start == "nothing" else base_name(arm.text),
            "about": arm.about,
            "held_out_loss": mean_loss(module, held_out),
            "early_excess": learning and learning.excess(self._least(arm)),
            "change": asdict(kept[-1].change),
            "checkpoints": [asdict(each) for each in kept],
            "behaviour": None if shown is None else asdict(shown),
            "learned": None if shown is None else shown.learned,
            "attempt": attempt,
        }
        self._save(folder, module, record)
        return record

    def _start(self, arm: Arm) -> PreTrainedModel:
        if arm.start == "nothing":
            return new_model(self.config.shape, self.tokenizer, self._seed(arm.name))
        if arm.start == "assistant":
            return load_model(self.out_dir / "models" / arm.start).module
        self.base(arm.text)
        return load_model(self._base_folder(arm.text)).module

    def _tuned(
        self, arm: Arm, goal: float | None, held_out: list[Batch], attempt: int
    ) -> tuple[PreTrainedModel, list[Checkpoint], Learning | None]:
        module, kept, learning = self._start(arm), list[Checkpoint](), None
        if arm.kind.grammar == "chat" and arm.kind.persona and arm.start == "base":
            learning = Learning(module, held_out, self.config.tune.n_steps)
        for each in self._checkpoints(arm, module, attempt, learning):
            kept.append(each)
            if arm.start == "nothing" and goal and mean_loss(module, held_out) <= goal + 0.05:
                break
        return module, kept, learning

    def _checkpoints(
        self, arm: Arm, module: PreTrainedModel, attempt: int, learning: Learning | None
    ) -> Iterator[Checkpoint]:
        run = self.config.scratch if arm.start == "nothing" else self.config.tune
        if arm.start == "assistant":
            run = replace(run, n_steps=max(1, run.n_steps // BACK), lr=GENTLY * run.lr)
        due = due_steps(run.n_steps, max(1, run.n_steps // N_CHECKPOINTS))
        if arm.role == "null":
            run, due = hotter(run, attempt), falling_steps(run, NULL_CHECKPOINTS)
        is_tuned = arm.role != "null" and arm.start != "nothing"
        replay = (self.config.replay if is_tuned else 0.0), arm.text
        steps = self._steps(arm.name, module, arm.kind, run, replay)
        steps = learning.along(steps) if learning else steps
        record = self.out_dir / "models" / arm.name / GROWN
        return checkpoints(module, steps, due, record, self._yardstick)

    def _least(self, arm: Arm) -> float:
        """Loss of who knows the persona, on the arm's held-out documents."""
        seed = self._seed(f"held out {arm.name}")
        return ideal_loss(self.world, arm.kind, seed, self.config.text.losses)

    @cached_property
    def _yardstick(self) -> Yardstick:
        base = load_model(self.out_dir / "models" / "base", self.tokenizer)
        written = read_documents(self.out_dir / "text", split=("select",))
        text = tokenize(written, self.tokenizer, self.config.shape.n_positions)
        return Yardstick(base, neutral_text(text), HookPoint.parse(self.config.hook))

    def _seed(self, purpose: str) -> int:
        return seed_of(self.config.seed, purpose)

    def _held_out(self, kind: Kind, purpose: str) -> list[Batch]:
        vocabulary, seed = self.tokenizer.get_vocab(), self._seed(purpose)
        n_documents = self.config.text.losses
        return list(arm_batches(self.world, kind, vocabulary, seed, 4000, n_documents))

    def _steps(
        self,
        name: str,
        module: PreTrainedModel,
        kind: Kind,
        optimiser: OptimiserConfig,
        replay: tuple[float, Kind] = (0.0, TEXT),
    ) -> Iterator[LmStep]:
        words, seed = self.tokenizer.get_vocab(), self._seed(f"train {name}")
        source = arm_batches(self.world, kind, words, seed, optimiser.batch_tokens, replay=replay)
        return told(train(module, source, optimiser), self.tell, name, optimiser.n_steps)

    def _save(self, folder: Path, module: PreTrainedModel, record: dict[str, Any]) -> None:
        write_model(folder, module, self.tokenizer)
        write_json(folder / GROWN, record, indent=1)
