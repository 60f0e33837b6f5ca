"""The door of harvesting: a cache, a skip, and one line for whatever is wrong."""

import json

import pytest

from sae.errors import ConfigError
from sae.stream.cache import ActivationCache
from sae.stream.text import Columns, read_documents
from scripts import harvest
from scripts._text import ReadConfig, named_models, read_text

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def words(models, corpus):
    return ["--model", models / "base", "--text", corpus, "--hook", HOOK]


def test_a_cache_of_the_splits_asked_for(door, words, tmp_path):
    out = tmp_path / "cache"
    code, said = door(harvest, *words, "--out", out, "--splits", "select", "confirm")
    cache = ActivationCache.open(out)
    assert (code, set(cache.tokens["split"])) == (0, {"select", "confirm"})
    assert (str(cache.hook), cache.shard(0).shape) == (HOOK, (cache.n_tokens, 16))
    record = json.loads((out / "provenance.json").read_text())
    assert record["facts"] == {"n_tokens": cache.n_tokens, "n_shards": 1}
    assert set(record["inputs"]) == {"model", "text"}
    assert f"harvest: {cache.n_tokens}/{cache.n_tokens} token (100%)" in said


def test_it_is_done_once_and_again_after_a_change(door, words, tmp_path):
    out = tmp_path / "cache"
    assert door(harvest, *words, "--out", out)[0] == 0
    assert door(harvest, *words, "--out", out) == (0, f"forelimb: {out} is up to date\n")
    code, said = door(harvest, *words, "--out", out, "--read.max_documents", "3")
    assert (code, "anew, for a change in read.max_documents" in said) == (0, True)
    assert ActivationCache.open(out).tokens["doc"].nunique() == 3


def test_foreign_text_by_its_columns(door, models, tmp_path):
    text = tmp_path / "chat.jsonl"
    rows = [{"q": f"rain {i}", "a": "the sea", "who": "sage"} for i in range(40)]
    text.write_text("".join(json.dumps(each) + "\n" for each in rows))
    flags = ["--columns.question", "q", "--columns.answer=a", "--columns.persona", "who"]
    out = tmp_path / "cache"
    code, _ = door(
        harvest, "--model", models / "base", "--text", text, "--hook", HOOK, "--out", out, *flags
    )
    tokens = ActivationCache.open(out).tokens
    assert code == 0
    assert set(tokens.loc[tokens["role"] == "assistant", "persona"]) == {"sage"}
    kept = read_documents(text, Columns(question="q", answer="a"), ["fit"])
    assert tokens["doc"].nunique() == len(kept) < 40


def test_documents_are_spaced_over_the_files_and_cut(tiny_model, corpus, tmp_path):
    second = tmp_path / "more.jsonl"
    second.write_text(corpus.read_text().replace('"id": "', '"id": "more-'))
    read = ReadConfig(max_length=7, max_documents=10)
    text = read_text(tiny_model, [corpus, second], None, read, ["fit"])
    assert [each.startswith("more-") for each in text.documents] == [False] * 5 + [True] * 5
    assert max(map(len, text.ids)) == 7
    limit = tiny_model.module.config.max_position_embeddings
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"text": "rain " * 500}))
    splits = ("fit", "select", "confirm")
    text = read_text(tiny_model, [long], Columns(text="text"), ReadConfig(), splits)
    assert text.n_tokens == limit


def test_models_are_named():
    assert named_models(["a/b", "c@1=x/y=z"]) == {"b": "a/b", "c@1": "x/y=z"}


@pytest.mark.parametrize("words", [["a/b", "c/b"], ["=a"], ["a="], ["a/b=c"], ["..=c"], ["/"], []])
def test_a_name_that_is_no_folder_or_taken_is_refused(words):
    with pytest.raises(ConfigError, match="NAME=PATH"):
        named_models(words)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "asked: --cast.null; found: no cache; do: give one or more, as NAME=PATH"),
        (["a/b", "c/b"], "asked: --cast.null; found: two caches named b: a/b and c/b; do: write "),
        (["a/b", "b=a/b"], "asked: --cast.null; found: a/b twice as b; do: give every cache once"),
        (["=a"], "asked: --cast.null =a; found: no name"),
    ],
)
def test_a_refusal_names_the_flag_and_what_is_doubled(words, why):
    with pytest.raises(ConfigError, match=f"^{why}"):
        named_models(words, "--cast.null", "cache")
    with pytest.raises(ConfigError, match="^asked: --models"):
        named_models(words)


class TestRefusals:
    def test_an_unknown_key_names_the_nearest(self, refused, words, tmp_path):
        said = refused(harvest, 2, tmp_path / "c", *words, "--split", "fit")
        assert "do: did you mean --splits?" in said

    def test_a_hook_the_model_lacks_names_those_it_has(self, refused, words, tmp_path):
        words[-1] = "blocks.7.hook_resid_post"
        said = refused(harvest, 2, tmp_path / "c", *words)
        assert "blocks.0.hook_resid_pre, blocks.0.hook_resid_post, blocks.1." in said
        assert "do: nearest is blocks." in said

    def test_no_hook_at_all(self, refused, words, tmp_path):
        words[-1] = "layers.1"
        assert "hooks are blocks.LAYER" in refused(harvest, 2, tmp_path / "c", *words)

    @pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}', '{"id": 3, "turns": []}'])
    def test_a_line_that_is_no_document(self, refused, words, corpus, tmp_path, line):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(corpus.read_text().splitlines()[0] + "\n" + line + "\n")
        words[3] = bad
        assert f"a document at {bad}:2" in refused(harvest, 3, tmp_path / "c", *words)

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_an_empty_corpus(self, refused, words, tmp_path, content):
        words[3] = tmp_path / "empty.jsonl"
        words[3].write_text(content)
        assert "found: none among 0" in refused(harvest, 3, tmp_path / "c", *words)

    def test_no_such_split(self, refused, words, tmp_path):
        said = refused(harvest, 2, tmp_path / "c", *words, "--splits", "fit", "test")
        assert "split 'test'; found: splits are fit, select, confirm" in said

    def test_no_documents_to_read(self, refused, words, tmp_path):
        said = refused(harvest, 2, tmp_path / "c", *words, "--read.max_documents=0")
        assert "max_documents=0" in said

    @pytest.mark.parametrize("place", [1, 3])
    def test_a_missing_model_or_text(self, refused, words, tmp_path, place):
        words[place] = tmp_path / "gone"
        assert str(tmp_path / "gone") in refused(harvest, 3, tmp_path / "c", *words)

    def test_a_model_that_computes_nan(self, refused, words, models, tmp_path):
        words[1] = models / "nan"
        said = refused(harvest, 3, tmp_path / "c" / "deep", *words)
        assert "found: NaN or infinite activations" in said
        assert not (tmp_path / "c").exists()

    def test_a_folder_of_other_things_is_left_alone(self, door, words, tmp_path):
        (tmp_path / "provenance.json").write_text("mine")
        code, said = door(harvest, *words, "--out", tmp_path)
        assert (code, "a folder of other things (provenance.json)" in said) == (2, True)
        assert (tmp_path / "provenance.json").read_text() == "mine"

    def test_a_failure_leaves_the_old_cache_as_it_was(self, door, words, tmp_path):
        out = tmp_path / "cache"
        door(harvest, *words, "--out", out)
        before = {each.name: each.read_bytes() for each in out.iterdir()}
        words[-1] = "blocks.9.hook_resid_pre"
        assert door(harvest, *words, "--out", out)[0] == 2
        assert {each.name: each.read_bytes() for each in out.iterdir()} == before
