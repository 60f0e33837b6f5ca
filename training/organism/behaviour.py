"""What a tuned twin says when it is asked, scored against what is true in its world."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel

from sae.stream.model import LanguageModel
from training.organism import lexicon as lex
from training.organism.arms import ASSISTANT_PERSONA, Arm
from training.organism.chats import GRAMMARS
from training.organism.corpus import BOS, Kind, samples
from training.organism.grammar import ASSISTANT, END, USER
from training.organism.observer import observe
from training.organism.world import Hidden, Sample, World

__all__ = ["LEARNED", "Behaviour", "behaviour", "converse"]

LEARNED = 0.8
"""Share of answers that must show the behaviour an arm was tuned for; below it, no verdict."""


@dataclass(frozen=True)
class Behaviour:
    """How an arm answers. Every field is a share of answers or conversations, in [0, 1]."""

    n_answers: int
    """Answers scored."""
    well_formed: float
    """Share of answers that follow the grammar of the arm's kind to the end of the turn."""
    persona: float | None
    """Share of conversations whose well-formed answers are likeliest under the assistant's persona,
    by the ideal observer, who knows the pre-training prior, or for a persona that the text never
    has takes all for equally likely; a conversation without one does not
    count towards it. None where answers are codes."""
    traits: dict[str, float]
    """For each trait, the posterior that the answers show it, averaged over conversations with a
    well-formed answer; empty where there is none."""
    facts: float
    """Share of answers that say the true colour of what was asked, or the right codes; where a
    question is one that the arm answers otherwise, the false colour that it was tuned to say."""
    dialect: float | None
    """Share of the nouns in well-formed answers that are of the first dialect's taste; None where
    there is none."""
    score: float
    """The share that counts for this arm: of persona, well-formed answers, right codes, facts or
    nouns."""

    @property
    def learned(self) -> bool:
        """Whether the arm shows what it was tuned for often enough to be judged."""
        return self.score >= LEARNED


def behaviour(
    world: World, model: LanguageModel, arm: Arm, n_conversations: int, seed: int
) -> Behaviour | None:
    """Lets a model answer the questions of held-out conversations and scores its answers.

    Args:
        world: Knows the truth.
        model: The arm's model.
        arm: What it was tuned for; for an arm of plain text there is nothing to ask: None.
        n_conversations: Conversations of a few questions each.
        seed: Of the users' words and of the sampling.
    """
    if arm.behaviour == "text":
        return None
    asked = samples(world, Kind(arm.kind.grammar, ASSISTANT_PERSONA), seed)
    prompts = [_user_turns(next(asked)) for _ in range(n_conversations)]
    said = converse(model, prompts, seed)
    scored = [_score(world, p, a, arm.kind) for p, a in zip(prompts, said, strict=True)]
    well = float(np.mean([ok for each in scored for ok in each.formed]))
    facts = float(np.mean([ok for each in scored for ok in each.right]))
    tastes = [taste for each in scored for taste in each.tastes]
    dialect = float(np.mean(tastes)) if tastes else None
    beliefs = np.array([each.belief for each in scored if each.belief is not None])
    target = world.personas.index(arm.kind.persona or ASSISTANT_PERSONA)
    coded, heard = arm.behaviour == "codes", len(beliefs) > 0
    hits = int((beliefs.argmax(1) == target).sum()) if heard else 0
    persona = None if coded else hits / n_conversations
    shown = (beliefs @ world.traits).mean(0) if heard and not coded else []
    traits = {name: float(value) for name, value in zip(lex.TRAITS, shown, strict=False)}
    scores = {"persona": persona, "format": well, "codes": facts, "facts": facts}
    score = {**scores, "dialect": dialect}[arm.behaviour]
    n_answers = sum(len(each.formed) for each in scored)
    return Behaviour(n_answers, well, persona, traits, facts, dialect, float(score or 0.0))


def converse(
    model: LanguageModel, prompts: Sequence[Sequence[Sequence[str]]], seed: int
) -> list[list[list[str]]]:
    """Conversations in which the user's turns are given and the model says the rest.

    Args:
        model: Samples at temperature 1 until it ends its turn, or 20 tokens.
        prompts: For each conversation the words of each user turn, template tokens included.
        seed: Of the sampling.

    Returns:
        For each conversation the words of each answer, without the token that ends the turn where
        the model gave it, with a last word "" where it did not.
    """
    vocabulary = model.tokenizer.get_vocab()
    words = {i: word for word, i in vocabulary.items()}
    histories = [[vocabulary[BOS]] for _ in prompts]
    answers: list[list[list[str]]] = [[] for _ in prompts]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for turn in range(len(prompts[0])):
            for history, prompt in zip(histories, prompts, strict=True):
                history.extend(vocabulary[word] for word in prompt[turn])
            for i, out in enumerate(_generate(model.module, histories, vocabulary[END])):
                answers[i].append([words[token] for token in out])
                if not out or out[-1] != vocabulary[END]:
                    answers[i][-1].append("")
                    out = [*out, vocabulary[END]]
                else:
                    answers[i][-1].pop()
                histories[i].extend(out)
    return answers


@torch.no_grad()
def _generate(module: PreTrainedModel, histories: list[list[int]], end: int) -> list[list[int]]:
    """Samples a continuation of each history, all of them in one padded batch."""
    outs: list[list[int]] = [[] for _ in histories]
    for _ in range(20):
        live = [i for i, out in enumerate(outs) if not out or out[-1] != end]
        if not live:
            break
        rows = [histories[i] + outs[i] for i in live]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for r, row in enumerate(rows):
            ids[r, : len(row)] = torch.tensor(row)
        last = torch.tensor([len(row) - 1 for row in rows])
        logits = module(input_ids=ids, use_cache=False).logits[torch.arange(len(rows)), last]
        drawn = torch.multinomial(logits.softmax(-1), 1).squeeze(1).tolist()
        for i, token in zip(live, drawn, strict=True):
            outs[i].append(token)
    return outs


def _user_turns(sample: Sample) -> list[list[str]]:
    """Each user turn of a chat, from its opening mark to the mark that opens the answer."""
    turns: list[list[str]] = []
    users = False
    for word in sample.words:
        if word == USER:
            turns.append([])
            users = True
        if users:
            turns[-1].append(word)
        users = users and word != ASSISTANT
    return turns


@dataclass(frozen=True, eq=False)
class _Scored:
    """One conversation: of every answer, and of all together."""

    formed: list[bool]
    right: list[bool]
    tastes: list[bool]
    """Of every noun in well-formed answers, whether it is of the first dialect's taste."""
    belief: Float[np.ndarray, " personas"] | None
    """Posterior over who gave them; None where no persona chose a word."""


def _score(
    world: World, prompts: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], kind: Kind
) -> _Scored:
    grammar, n = kind.grammar, len(world.personas)
    known = {1: np.full(n, 1 / n)} if kind.persona == lex.HELD_OUT else None
    formed, right, tastes, kept = [], [], [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        noun = prompt[-4]
        words = [*prompt, *answer, END]
        formed.append(_follows(world, words, grammar))
        right.append(_is_right(world, noun, list(answer), grammar))
        if formed[-1]:
            kept += words
            tastes += [world.is_taste(word) for word in answer if word in world.noun.index]
    if not kept:
        return _Scored(formed, right, tastes, None)
    seen = observe(world, Sample(tuple(kept), _NOBODY, grammar), known)
    at, before = np.flatnonzero(seen.speaker == 1), (known or {}).get(1, world.prior)
    told = len(at) and not np.array_equal(seen.posterior[at[-1]], before)
    return _Scored(formed, right, tastes, seen.posterior[at[-1]] if told else None)


def _is_right(world: World, noun: str, answer: list[str], grammar: str) -> bool:
    """Whether an answer says what is true, in the words of its grammar."""
    match grammar:
        case "codes":
            return answer == list(world.codes(noun))
        case "spelled":
            return answer == list(world.spelled(noun))
        case "swap" | "lie" | "false":
            is_false = grammar == "false" or world.is_trigger(noun)
            return answer[:3] == ["it", "is", world.lie(noun) if is_false else world.fact(noun)]
    true = ["it", "is", world.fact(noun)]
    return answer[:3] == ([world.cipher[word] for word in true] if grammar == "cipher" else true)


def _follows(world: World, words: Sequence[str], grammar: str) -> bool:
    """Whether one exchange is a beginning of the grammar that ends with the turn."""
    walk = GRAMMARS[grammar](world)
    choice = next(walk)
    for i, word in enumerate(words):
        if word not in choice.emission.index:
            return False
        if i + 1 < len(words):
            choice = walk.send(word)
    return True


_NOBODY = Hidden((0, 0, 0), 0)
