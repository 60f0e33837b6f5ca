"""Which tokens count when a model is tuned on labelled text, and where a null ends."""

from dataclasses import replace
from itertools import islice

import pytest

from sae.change import Change
from sae.errors import ConfigError
from sae.stream.text import Document, Turn
from sae.stream.tokens import tokenize
from training.organism.checkpoints import (
    Checkpoint,
    as_far,
    checkpoints,
    due_steps,
    falling_steps,
    finished,
    hotter,
    lengthened,
    up_to,
)
from training.organism.optimiser import OptimiserConfig
from training.organism.tuning import scored_tokens, text_batches


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


def test_the_assistants_words_and_the_token_after_them_count(text, tiny_tokenizer):
    for ids, counted in zip(text.ids, scored_tokens(text, "assistant"), strict=True):
        tokens = tiny_tokenizer.convert_ids_to_tokens(ids.tolist())
        chosen = [i for i, counts in enumerate(counted) if counts]
        if "<|assistant|>" not in tokens:
            assert chosen == []
        else:
            assert chosen == list(range(tokens.index("<|assistant|>") + 1, len(tokens)))
            assert tokens[chosen[-1]] == "<|end|>"


def test_the_end_of_a_turn_counts_for_its_own_document_alone(tiny_tokenizer):
    """A chat that is cut within the answer does not make the next document's first token count."""
    turns = (Turn("user", "the rain"), Turn("assistant", "the sea calls the sea"))
    chats = [Document(f"d{i}", "s", "fit", turns, "chat") for i in range(2)]
    text = tokenize(chats, tiny_tokenizer, max_length=8)
    first, second = scored_tokens(text, "assistant")
    assert first[-1] and not second[0]
    assert first.tolist() == second.tolist()


def test_all_means_all(text):
    assert all(each.all() for each in scored_tokens(text, "all"))


def test_a_text_without_assistant_cannot_be_scored_by_it(text):
    context = text.table.groupby("doc", sort=False)["context"].first()
    stories = text.select(context.ne("chat").to_numpy(bool))
    with pytest.raises(ConfigError, match="--scored all"):
        scored_tokens(stories, "assistant")


def test_every_document_comes_once_a_round_each_time_in_another_order(text):
    def round_of(seed, skip=0):
        rows = []
        for batch in text_batches(text, "all", seed, 60):
            rows += [tuple(ids[m].tolist()) for ids, m in zip(batch.ids, batch.mask, strict=True)]
            if len(rows) >= 24 * 40:
                return rows
        return rows

    rows = round_of(0)
    assert rows == round_of(0) != round_of(1)
    expected = {tuple(ids.tolist()) for ids in text.ids}
    assert set(rows) == expected
    counts = [rows.count(each) for each in expected]
    assert max(counts) / min(counts) < 3  # equal documents aside, none comes more often


def test_a_document_of_which_nothing_counts_is_not_read(text):
    """Else a batch of such documents would have no loss."""
    for batch in islice(text_batches(text, "assistant", 0, 30), 40):
        assert batch.scored.any(1).all()


def checkpoint(step, moved):
    return Checkpoint(f"step-{step:05d}", step, 0, 0.0, Change(0.0, moved, 0.0))


def test_a_null_ends_a_little_beyond_its_aim():
    def found():
        return (checkpoint(i, moved) for i, moved in enumerate([0.1, 0.3, 0.305, 0.31, 0.5]))

    assert [each.step for each in up_to(found(), 0.3)] == [0, 1, 2, 3]
    assert [each.step for each in up_to(found(), 0.9)] == [0, 1, 2, 3, 4]
    assert [each.step for each in up_to(found(), 0.0)] == [0, 1, 2, 3, 4]


def test_up_to_asks_for_no_step_more():
    asked = []

    def found():
        for i in range(5):
            asked.append(i)
            yield checkpoint(i, float(i))

    list(up_to(found(), 1.0))
    assert asked == [0, 1, 2]


def test_a_null_may_take_longer_at_the_full_rate():
    run = OptimiserConfig(n_steps=10, decay=0.5)
    assert lengthened(run, 4) == replace(run, n_steps=40, lr=1.5 * run.lr, decay=0.0)


def record(*moved):
    return {"checkpoints": [{"change": {"activations": each}} for each in moved]}


def test_a_null_of_the_organism_has_the_arms_schedule_at_a_higher_rate():
    run = OptimiserConfig(n_steps=10, decay=0.5)
    assert hotter(run, 1) == replace(run, lr=1.3 * run.lr)
    assert hotter(run, 2) == replace(run, lr=1.3 * 1.3 * run.lr)
    assert falling_steps(run, 5) == [6, 7, 8, 9, 10]
    assert falling_steps(run, 2) == [8, 10]
    assert falling_steps(replace(run, decay=0.0), 2) == [10]
    assert as_far(record(0.4, 0.3), 0.39)
    assert not as_far(record(0.4, 0.3), 0.4)


def test_a_model_begun_anew_is_not_taken_for_a_finished_one(tmp_path):
    old = tmp_path / "checkpoints" / "step-00004"
    old.mkdir(parents=True)
    (tmp_path / "grown.json").write_text("{}")
    assert finished(tmp_path) == {}

    def steps():
        assert finished(tmp_path) is None and not old.exists()
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        next(checkpoints(None, steps(), [1], tmp_path / "grown.json", None))
    assert (tmp_path / "checkpoints").exists()


def test_the_last_step_is_always_due():
    assert due_steps(10, 5) == [5, 10]
    assert due_steps(3, 5) == [3]
    assert list(islice(due_steps(7, 3), 9)) == [3, 6, 7]
