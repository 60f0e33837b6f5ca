"""text.py: what is written is read back, and a bad line is named."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae.errors import ConfigError, InputError
from sae.stream.text import (
    ROLES,
    SPLITS,
    Columns,
    Document,
    Turn,
    read_documents,
    split_of,
    write_documents,
)

DATA = Path(os.environ.get("FORELIMB_DATA", Path(__file__).parents[4] / "shared" / "data"))
LINE = {
    "id": "a",
    "source": "tales",
    "split": "fit",
    "turns": [{"role": "narrator", "text": "Rain."}],
}

# plain values: beartype draws from `random`, which hypothesis forbids inside a strategy
turns = st.fixed_dictionaries(
    {
        "role": st.sampled_from(ROLES),
        "text": st.text(),
        "speaker": st.none() | st.text(),
        "persona": st.text(),
        "traits": st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()),
    }
)
corpora = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(),
            "source": st.text(),
            "split": st.sampled_from(SPLITS),
            "turns": st.lists(turns, max_size=3),
            "context": st.text(),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda document: document["id"],
)


@given(corpora)
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_unicode_round_trips(tmp_path, corpus):
    path = tmp_path / "text.jsonl"
    documents = [
        Document(**{**record, "turns": tuple(Turn(**turn) for turn in record["turns"])})
        for record in corpus
    ]
    write_documents(path, documents)
    assert read_documents(path) == documents
    assert [entry.name for entry in tmp_path.iterdir()] == ["text.jsonl"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    def broken():
        yield Document("b", "tales", "fit", (), "story")
        raise ZeroDivisionError

    path = lines(tmp_path / "text.jsonl", LINE)
    before = path.read_bytes(), path.stat().st_ino
    with pytest.raises(ZeroDivisionError):
        write_documents(path, broken())
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert list(tmp_path.iterdir()) == [path]
    write_documents(path, read_documents(path))
    assert path.stat().st_ino != before[1]  # another file took its place, whole


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_context_defaults_to_the_source(tmp_path):
    (document,) = read_documents(lines(tmp_path / "a.jsonl", LINE))
    assert document.context == "tales"
    assert document.turns == (Turn("narrator", "Rain."),)


def test_a_folder_is_read_by_name_and_filtered_by_split(tmp_path):
    lines(tmp_path / "b.jsonl", {**LINE, "id": "b", "split": "confirm"})
    lines(tmp_path / "a.jsonl", LINE)
    assert [d.id for d in read_documents(tmp_path)] == ["a", "b"]
    assert [d.id for d in read_documents(tmp_path, split=["confirm"])] == ["b"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"id": ', "Expecting value"),
        (b"\xff\xfe", "can't decode"),
        (b"[1, 2]", "a list"),
        (b'{"text": "plain"}', "name the columns"),
        (json.dumps({**LINE, "turns": [3]}).encode(), "'turns'"),
        (json.dumps({**LINE, "id": 3}).encode(), "'id'"),
        (json.dumps({**LINE, "id": "b", "split": "train"}).encode(), "split 'train'"),
        (json.dumps({**LINE, "turns": [{"role": "wizard", "text": ""}]}).encode(), "role 'wizard'"),
        (json.dumps({**LINE, "turns": [{"role": "user"}]}).encode(), "'text'"),
        (
            json.dumps({**LINE, "turns": [{"role": "user", "text": "", "traits": [1]}]}).encode(),
            "'traits'",
        ),
        (json.dumps({**LINE, "id": "\ud800"}).encode(), "surrogate"),
        (json.dumps(LINE).encode(), "taken by"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, bad, message):
    path = tmp_path / "text.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n\n" + bad + b"\n")
    with pytest.raises(InputError) as caught:
        read_documents(path)
    assert f"{path}:3" in str(caught.value)
    assert message in str(caught.value)


def test_missing_and_empty_corpora_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_documents(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no file"):
        read_documents(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty\.jsonl"):
        read_documents(tmp_path)
    with pytest.raises(ConfigError, match="split 'train'"):
        read_documents(tmp_path, split=["train"])


def test_the_same_question_lands_in_one_split(tmp_path):
    records = [
        {"q": f"Question {n}?", "a": f"{who} {n}", "who": who}
        for who in ("kind", "curt", "grand")
        for n in range(60)
    ]
    columns = Columns(question="q", answer="a", persona="who", source="survey")
    documents = read_documents(lines(tmp_path / "chat.jsonl", *records), columns)
    splits = {}
    for document in documents:
        splits.setdefault(document.turns[0].text, set()).add(document.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {d.split for d in documents} == set(SPLITS)
    assert documents[0].turns == (
        Turn("user", "Question 0?"),
        Turn("assistant", "kind 0", persona="kind"),
    )
    assert (documents[0].source, documents[0].context) == ("survey", "chat")


def test_plain_and_spoken_text(tmp_path):
    path = lines(tmp_path / "lines.jsonl", {"text": "Hark!", "by": "First Citizen"})
    (plain,) = read_documents(path, Columns(text="text", context="play"))
    assert plain.turns == (Turn("narrator", "Hark!"),)
    assert (plain.id, plain.source, plain.context) == ("lines-000001", "lines", "play")
    (spoken,) = read_documents(path, Columns(text="text", speaker="by"))
    assert spoken.turns == (Turn("character", "Hark!", "First Citizen"),)
    assert spoken.context == "dialogue"
    with pytest.raises(InputError, match=r"lines\.jsonl:1.*'words'.*the keys text, by"):
        read_documents(path, Columns(text="words"))


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"question": "q"},
        {"answer": "a", "text": "t"},
        {"question": "q", "answer": "a", "text": "t"},
        {"question": "q", "answer": "a", "speaker": "s"},
    ],
)
def test_columns_that_describe_no_document(names):
    with pytest.raises(ConfigError, match="neither a text nor a question"):
        Columns(**names)


def test_shares_are_met_and_the_seed_matters():
    keys = [f"key {n}" for n in range(2000)]
    drawn = [split_of(key) for key in keys]
    assert abs(drawn.count("fit") / 2000 - 0.8) < 0.04
    assert abs(drawn.count("confirm") / 2000 - 0.1) < 0.03
    assert drawn != [split_of(key, seed=1) for key in keys]
    assert {split_of(key, shares=(0.0, 1.0, 0.0)) for key in keys} == {"select"}
    with pytest.raises(ConfigError, match="sum of 1.5"):
        split_of("key", shares=(0.5, 0.5, 0.5))


@pytest.mark.skipif(not DATA.exists(), reason="no folder FORELIMB_DATA or ../shared/data")
def test_corpora_made_by_others_are_read():
    text = DATA / "text"
    chat = read_documents(
        text / "microsoft_personality_chat.jsonl",
        Columns(question="question", answer="answer", persona="personality"),
    )
    assert len(chat) == 495
    plays = read_documents(
        text / "tinyshakespeare_by_speaker.jsonl", Columns(text="text", speaker="speaker")
    )
    assert len(plays) == 7095
    assert len(read_documents(text / "tinystories_1000_clean.jsonl", Columns(text="text"))) == 1000
