"""buffer.py: every token once an epoch, in a seeded order, resumed bit for bit."""

import json

import numpy as np
import pytest
import torch

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint
from sae.stream.buffer import ActivationBuffer, CacheSource, ModelSource, usual_tokens
from sae.stream.cache import write_cache
from sae.stream.tokens import tokenize

HOOK = HookPoint(1, "resid_post")
D_IN = 2
ROW = 4 * D_IN  # bytes


class Numbered:
    """Rows that are their own number, in chunks of unequal size, an empty one among them."""

    def __init__(self, sizes=(5, 9, 0, 4, 7, 5), spare=0):
        self.sizes, self.spare, self.asked = sizes, spare, []
        self.n_chunks, self.d_in = len(sizes), D_IN

    def n_most(self, number):
        return self.sizes[number] + self.spare

    def chunk(self, number):
        self.asked.append(number)
        first = sum(self.sizes[:number])
        return torch.arange(first, first + self.sizes[number]).float()[:, None].repeat(1, D_IN)


def take(buffer, n_batches):
    return torch.cat([next(buffer)[:, 0] for _ in range(n_batches)]).int().tolist()


@pytest.mark.parametrize("limit", [9, 14, 1000])
@pytest.mark.parametrize("batch", [1, 4, 30, 41])
@pytest.mark.parametrize("spare", [0, 3])
def test_every_token_comes_once_an_epoch(limit, batch, spare):
    source = Numbered(spare=spare)
    buffer = ActivationBuffer(source, batch, bytes_limit=(limit + spare) * ROW)
    stream = take(buffer, -(-90 // batch))
    for epoch in range(3):
        assert sorted(stream[30 * epoch : 30 * (epoch + 1)]) == list(range(30))
    assert stream[:30] != stream[30:60] != stream[60:90]


def test_rows_are_mixed_across_chunks():
    buffer = ActivationBuffer(Numbered(), 10, bytes_limit=30 * ROW)
    first = take(buffer, 1)
    chunk_of = np.searchsorted(np.cumsum(Numbered().sizes), first, side="right")
    assert len(set(chunk_of)) > 2


def test_the_seed_decides_the_order():
    def stream(seed):
        return take(ActivationBuffer(Numbered(), 5, bytes_limit=14 * ROW, seed=seed), 12)

    assert stream(3) == stream(3)
    assert stream(3) != stream(4)


@pytest.mark.parametrize("limit", [9, 14, 1000])
@pytest.mark.parametrize("batch", [4, 5, 41])
def test_a_resumed_stream_equals_the_unbroken_one(limit, batch):
    whole = ActivationBuffer(Numbered(), batch, bytes_limit=limit * ROW, seed=2)
    cursors, batches = [], []
    for _ in range(-(-100 // batch)):
        cursors.append(json.loads(json.dumps(whole.cursor())))
        batches.append(next(whole))
    # with 5 rows a batch and fills of 9 rows some batches straddle a fill, others end with one
    for start, cursor in enumerate(cursors):
        resumed = ActivationBuffer(
            Numbered(), batch, bytes_limit=limit * ROW, seed=2, cursor=cursor
        )
        assert resumed.cursor() == cursor
        for wanted in batches[start:]:
            assert torch.equal(next(resumed), wanted)


def test_resuming_right_at_a_refill_reads_no_old_chunk():
    buffer = ActivationBuffer(Numbered((5, 5, 5, 5)), 5, bytes_limit=10 * ROW)
    take(buffer, 2)
    cursor = buffer.cursor()
    assert (cursor["chunk"], cursor["offset"]) == (2, 0)
    source = Numbered((5, 5, 5, 5))
    resumed = ActivationBuffer(source, 5, bytes_limit=10 * ROW, cursor=cursor)
    assert torch.equal(next(resumed), next(buffer))
    assert len(source.asked) == 2


def test_a_source_that_fits_as_a_whole_is_asked_once():
    source = Numbered()
    buffer = ActivationBuffer(source, 10, bytes_limit=30 * ROW)
    take(buffer, 9)
    assert sorted(source.asked) == list(range(6))
    cursor = buffer.cursor()
    resumed = ActivationBuffer(Numbered(), 10, bytes_limit=30 * ROW, cursor=cursor)
    assert take(resumed, 6) == take(buffer, 6)


def test_the_bytes_are_bounded():
    source = Numbered((5, 10, 4, 7, 5))  # 5 and 10 are one row too many
    buffer = ActivationBuffer(source, 4, bytes_limit=14 * ROW + 3)
    held = set()
    for _ in range(40):
        next(buffer)
        held.add(buffer.n_bytes)
    assert max(held) <= 14 * ROW
    assert len(held) > 1
    with pytest.raises(ConfigError, match=r"bytes_limit=64.*a chunk of 80 bytes"):
        ActivationBuffer(source, 4, bytes_limit=8 * ROW)


def test_a_cursor_of_another_stream_is_refused():
    cursor = ActivationBuffer(Numbered(), 4, bytes_limit=14 * ROW).cursor()
    for changed in ({"seed": 1}, {"bytes_limit": 15 * ROW}):
        with pytest.raises(ConfigError, match="a cursor of"):
            ActivationBuffer(Numbered(), 4, **{"bytes_limit": 14 * ROW, **changed}, cursor=cursor)
    with pytest.raises(ConfigError, match="a cursor of"):
        ActivationBuffer(Numbered((9, 9)), 4, bytes_limit=14 * ROW, cursor=cursor)
    with pytest.raises(InputError, match="cursor stands at 99"):
        ActivationBuffer(Numbered(), 4, bytes_limit=14 * ROW, cursor={**cursor, "offset": 99})


def test_a_source_without_tokens_is_an_input_error():
    for source in (Numbered(()), Numbered((0, 0)), Numbered((0, 0), spare=5)):
        with pytest.raises(InputError, match="none that is kept"):
            next(ActivationBuffer(source, 4))
    with pytest.raises(ConfigError, match="batch_tokens=0"):
        ActivationBuffer(Numbered(), 0)
    with pytest.raises(ConfigError, match="seed=-1"):
        ActivationBuffer(Numbered(), 4, seed=-1)


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, tiny_model, text):
    return write_cache(tmp_path_factory.mktemp("c") / "cache", tiny_model, text, HOOK, 100)


def chunks(source):
    return torch.cat([source.chunk(number) for number in range(source.n_chunks)])


def test_a_cache_and_its_model_give_the_same_tokens(cache, tiny_model, text):
    stored = CacheSource(cache)
    live = ModelSource(tiny_model, text, HOOK, documents_per_chunk=7)
    assert (stored.n_chunks, live.n_chunks) == (cache.n_shards, 4)
    assert stored.d_in == live.d_in == 16
    torch.testing.assert_close(chunks(stored), chunks(live), atol=1e-5, rtol=0)
    assert len(chunks(stored)) == usual_tokens(cache.tokens).sum() < text.n_tokens
    for number in range(live.n_chunks):
        assert len(live.chunk(number)) <= live.n_most(number)
    assert [len(stored.chunk(i)) for i in range(stored.n_chunks)] == [
        stored.n_most(i) for i in range(stored.n_chunks)
    ]


def test_the_mask_chooses_the_tokens(cache, tiny_model, text):
    def assistants(table):
        return (table["role"] == "assistant").to_numpy()

    wanted = assistants(text.table).sum()
    assert len(chunks(CacheSource(cache, assistants))) == wanted
    assert len(chunks(ModelSource(tiny_model, text, HOOK, keep=assistants))) == wanted


def test_special_tokens_and_outliers_are_left_out(cache):
    table = cache.tokens.head(40).assign(is_outlier=[True, True] + [False] * 38)
    keep = usual_tokens(table)
    assert not keep[table["is_special"] | table["is_outlier"]].any()
    assert keep.sum() == (~table["is_special"]).sum() - 1  # the first token is special as well


def test_a_live_source_leaves_out_outliers(tiny_model, text, monkeypatch):
    token = text.table["token_id"].iloc[5]
    embedding = tiny_model.module.get_input_embeddings().weight
    monkeypatch.setattr(embedding, "data", embedding.data.clone())
    embedding.data[token] *= 100
    live = ModelSource(tiny_model, text, HookPoint(0, "resid_pre"))
    usual = usual_tokens(text.table) & (text.table["token_id"] != token).to_numpy()
    assert len(chunks(live)) == usual.sum() < usual_tokens(text.table).sum()


def test_a_live_stream_is_resumed_as_well(tiny_model, text):
    def stream(cursor=None):
        source = ModelSource(tiny_model, text, HOOK, documents_per_chunk=5)
        return ActivationBuffer(source, 64, bytes_limit=400 * 64, cursor=cursor)

    whole = stream()
    for _ in range(7):
        next(whole)
    resumed = stream(whole.cursor())
    for _ in range(12):
        assert torch.equal(next(whole), next(resumed))
