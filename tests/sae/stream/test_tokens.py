"""tokens.py: every token knows whose words it is, by character offsets."""

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sae.errors import ConfigError, InputError
from sae.stream.text import Document, Turn
from sae.stream.tokens import TokenizedText, render, tokenize

COLUMNS = [
    *("doc", "pos", "token_id", "token", "role", "persona", "context", "split"),
    *("speaker", "turn", "is_template", "is_special", "is_outlier"),
]


def chat(*turns):
    return Document("chat-x", "tiny", "fit", tuple(Turn(*turn) for turn in turns), "chat")


def byte_level(template=None, **special):
    """One token a byte: characters of several bytes are several tokens with equal offsets."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.chat_template = template
    return tokenizer


def test_roles_come_from_the_chat_template(tiny_tokenizer):
    # the words of the template, "user" and "assistant" among them, are also words of the turns
    document = chat(("user", "a ship"), ("assistant", "gold , a ship", None, "pirate"))
    text = tokenize([document], tiny_tokenizer)
    table = text.table
    assert list(table.columns) == COLUMNS
    assert table["token"].tolist() == [
        *("<bos>", "<|user|>", " a", " ship", "<|end|>"),
        *("<|assistant|>", " gold", " ,", " a", " ship", "<|end|>"),
    ]
    template = "template"
    assert table["role"].tolist() == [
        *(template, template, "user", "user", template),
        *(template, *["assistant"] * 4, template),
    ]
    assert table["persona"].tolist() == [*["none"] * 6, *["pirate"] * 4, "none"]
    assert table["turn"].fillna(-1).tolist() == [-1, -1, 0, 0, -1, -1, 1, 1, 1, 1, -1]
    assert table["is_template"].tolist() == (table["role"] == template).tolist()
    assert table["is_special"].tolist() == table["is_template"].tolist()
    assert not table["is_outlier"].any()
    assert table["pos"].tolist() == list(range(11))
    assert table["token_id"].tolist() == text.ids[0].tolist()


def test_words_that_also_stand_in_the_template_are_not_mistaken():
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} (by {{ m.role }}){% endfor %}"
    document = chat(("user", "user"), ("assistant", "by"), ("user", ""))
    text, spans = render(document, byte_level(template))
    assert text == "[user] user (by user)[assistant] by (by assistant)[user]  (by user)"
    assert spans == [(7, 11), (33, 35), (57, 57)]
    assert [text[a:b] for a, b in spans] == ["user", "by", ""]


def test_a_template_that_strips_is_followed():
    template = "{% for m in messages %}<{{ m.content | trim }}>{% endfor %}"
    text, spans = render(chat(("user", "  a b \n")), byte_level(template))
    assert (text, spans) == ("<a b>", [(1, 4)])


def test_turns_with_nothing_between_them():
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    document = chat(("user", "ab"), ("assistant", ""), ("user", "c"), ("assistant", "d"))
    table = tokenize([document], byte_level(template)).table
    assert table["turn"].tolist() == [0, 0, 2, 3]
    assert table["role"].tolist() == ["user", "user", "user", "assistant"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "alters, drops or repeats"),
        ("{{ messages[0].content }}", "alters, drops or repeats"),
        ("{{ messages[0].content * 2 }}{{ messages[1].content }}", "alters, drops or repeats"),
        ("{{ raise_exception('no system turns') }}", "no system turns"),
    ],
)
def test_a_template_that_hides_words_is_an_input_error(template, message):
    document = chat(("system", "be kind"), ("user", "hello"))
    with pytest.raises(InputError, match=message) as caught:
        render(document, byte_level(template))
    assert "chat-x" in str(caught.value)


def test_the_plain_default_is_explicit():
    document = chat(("system", "S"), ("user", "U"), ("assistant", "A"))
    text, spans = render(document, byte_level())
    assert text == "System: S\nUser: U\nAssistant: A\n"
    assert [text[a:b] for a, b in spans] == ["S", "U", "A"]


def test_stories_are_lines_even_where_there_is_a_chat_template(tiny_tokenizer):
    turns = (
        Turn("narrator", "Rain."),
        Turn("character", "Aye!", "Bo"),
        Turn("character", "Hm."),
        Turn("user", "Hi"),
    )
    text, spans = render(Document("d", "s", "fit", turns, "story"), tiny_tokenizer)
    assert text == "Rain.\nBo: Aye!\nHm.\nUser: Hi\n"
    assert [text[a:b] for a, b in spans] == ["Rain.", "Aye!", "Hm.", "Hi"]


def test_characters_of_several_bytes_keep_their_role():
    document = chat(("user", "né"), ("assistant", "🙂é日"))
    text = tokenize([document], byte_level())
    assert b"".join(bytes([b]) for b in _bytes(text)) == "User: né\nAssistant: 🙂é日\n".encode()
    counts = text.table["role"].value_counts()
    assert counts["user"] == len("né".encode())
    assert counts["assistant"] == len("🙂é日".encode())


def _bytes(text: TokenizedText):
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the byte-level alphabet: printable bytes stand for themselves, the others from U+0100 on
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in shown]
    byte_of = {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(rest)}
    return [byte_of[pieces[i]] for i in text.ids[0]]


def test_truncation_counts_bos_and_drops_nothing_else(documents, tiny_tokenizer):
    whole = tokenize(documents, tiny_tokenizer)
    cut = tokenize(documents, tiny_tokenizer, max_length=10)
    assert all(len(row) == 10 for row in cut.ids)
    assert all(np.array_equal(a[:10], b) for a, b in zip(whole.ids, cut.ids, strict=True))
    first = whole.table[whole.table["pos"] < 10].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, cut.table)


def test_every_document_begins_with_one_bos(documents, tiny_tokenizer):
    text = tokenize(documents, tiny_tokenizer)
    bos = tiny_tokenizer.bos_token_id
    assert all(row[0] == bos and (row == bos).sum() == 1 for row in text.ids)
    assert (text.table.loc[text.table["pos"] == 0, "role"] == "template").all()


def test_labels_of_the_corpus(documents, tiny_tokenizer):
    table = tokenize(documents, tiny_tokenizer).table
    assert set(table["role"]) == {
        *("template", "narrator", "character", "system", "user", "assistant")
    }
    spoken = table[table["role"] == "character"]
    assert set(spoken["speaker"]) == {"Bo", "Cy"}
    assert set(spoken["persona"]) == {"pirate", "sage"}
    assert table.loc[table["role"] == "template", "speaker"].isna().all()
    assert table.loc[table["role"] == "template", "turn"].isna().all()
    by_doc = table.groupby("doc", sort=False)[["context", "split"]].first()
    assert by_doc["context"].tolist() == [document.context for document in documents]
    assert by_doc["split"].tolist() == [document.split for document in documents]
    assert not (table["token"] == "<unk>").any()


def test_an_unknown_word_is_text_and_not_special(tiny_tokenizer):
    table = tokenize([chat(("user", "a zeppelin"))], tiny_tokenizer).table
    (row,) = table[table["token"] == "<unk>"].itertuples()
    assert row.role == "user"
    assert not row.is_special


def test_a_special_token_inside_the_words_is_template(tiny_tokenizer):
    table = tokenize([chat(("user", "a <eos> ship"))], tiny_tokenizer).table
    (row,) = table[table["token"] == "<eos>"].itertuples()
    assert (row.role, row.is_special, row.is_template) == ("template", True, True)


def test_documents_of_one_token_are_dropped(tiny_tokenizer):
    empty = Document("empty", "tiny", "fit", (), "story")
    full = chat(("user", "a ship"))
    assert tokenize([empty, full], tiny_tokenizer).documents == ["chat-x"]
    with pytest.raises(InputError, match="two tokens among 1"):
        tokenize([empty], tiny_tokenizer)
    with pytest.raises(ConfigError, match="max_length=1"):
        tokenize([full], tiny_tokenizer, max_length=1)


def test_parts_are_what_a_part_of_the_documents_gives(documents, tiny_tokenizer):
    text = tokenize(documents, tiny_tokenizer)
    keep = np.array([document.split == "fit" for document in documents])
    picked = text.select(keep)
    alone = tokenize([d for d in documents if d.split == "fit"], tiny_tokenizer)
    pd.testing.assert_frame_equal(picked.table, alone.table)
    assert picked.sha256 == alone.sha256 != text.sha256
    assert picked.n_tokens == len(picked.table) == picked.starts[-1]
    pd.testing.assert_frame_equal(
        text.between(3, 9).table, tokenize(documents[3:9], tiny_tokenizer).table
    )
    assert text.between(20, 99).documents == [document.id for document in documents[20:]]


def test_the_hash_knows_where_documents_end():
    row = np.array([5, 1, 7, 7])
    whole = TokenizedText((row,), pd.DataFrame({"doc": ["a"] * 4}))
    split = TokenizedText((row[:2], row[2:]), pd.DataFrame({"doc": ["a", "a", "b", "b"]}))
    assert whole.sha256 != split.sha256


def test_a_tokenizer_that_merges_spaces(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    turns = (Turn("narrator", "One day, Lily saw a café 🙂."), Turn("character", "Hi!", "Tim"))
    text = tokenize([Document("d", "s", "fit", turns, "story")], tokenizer)
    table = text.table
    assert table["token"].tolist()[:4] == ["<s>", " One", " day", ","]
    assert "".join(table.loc[table["turn"] == 0, "token"]) == (
        " One day, Lily saw a café <0xF0><0x9F><0x99><0x82>."
    )
    # the space before "Hi!" belongs to the template, but is merged into the first token of it
    assert "".join(table.loc[table["turn"] == 1, "token"]).lstrip() == "Hi!"
    assert table["is_special"].sum() == 1
