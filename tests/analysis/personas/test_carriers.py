"""Persona latents are looked for where the base model is at home."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from analysis.latents.bench import Bench, lay_bench
from analysis.latents.traces import Firing
from analysis.personas.carriers import (
    Carriers,
    confirmed_latents,
    dialects_of,
    find_carriers,
)
from analysis.personas.contrasts import spans
from analysis.statistics.intervals import assign_blocks, resample_weights
from sae.errors import InputError
from sae.stream.activations import HookPoint
from sae.stream.tokens import tokenize

PERSONAS = ("sage", "pirate")
N_TOKENS = 40
IN_PROSE, IN_CHATS = (0, 1), (2, 3)


def laid_on(like: Bench, n_prose: int = 16, personas: tuple[str, ...] = PERSONAS) -> Bench:
    """Prose and chats, both of all personas in both splits but for prose, which may lack some."""
    rows = []
    for split in ("select", "confirm"):
        for kind, n, names in (("story", n_prose, personas), ("chat", 16, PERSONAS)):
            for number in range(n):
                name = names[number % len(names)]
                rows += [
                    {
                        "doc": f"{split}-{kind}-{number}",
                        "pos": pos,
                        "token_id": pos % 2,
                        "context": kind,
                        "split": split,
                        "persona": name,
                        "role": ("user", "assistant")[pos % 2] if kind == "chat" else "character",
                    }
                    for pos in range(N_TOKENS)
                ]
    tokens = pd.DataFrame(rows)
    blocks = assign_blocks(np.array([row["doc"] for row in rows]))
    x = np.random.default_rng(0).normal(size=(len(tokens), 3)).astype(np.float32)
    x[:, 0] += 2 * tokens["persona"].eq("sage").to_numpy(float)
    weights = resample_weights(blocks.n_blocks)
    return replace(like, tokens=tokens, blocks=blocks, weights=weights, x=x)


@pytest.fixture(scope="module")
def like(tiny_model, tiny_tokenizer, documents) -> Bench:
    """A bench whose model and text do not matter."""
    return lay_bench(
        tiny_model, HookPoint(0, "resid_post"), tokenize(documents * 3, tiny_tokenizer)
    )


def firing(laid: Bench) -> Firing:
    """Latents 0 and 1 tell the personas apart in prose only, 2 and 3 in chats only."""
    tokens = laid.tokens
    noise = np.random.default_rng(1).random((len(tokens), 4)) * (1 + (np.arange(4) > 1))
    chat = tokens["context"].eq("chat").to_numpy()
    for latents, where in ((IN_PROSE, ~chat), (IN_CHATS, chat)):
        for latent, persona in zip(latents, PERSONAS, strict=True):
            noise[where & tokens["persona"].eq(persona).to_numpy(), latent] += 3
    return Firing(sparse.csr_array(noise), np.eye(4, 3, dtype=np.float32))


def best(laid: Bench) -> dict[str, int]:
    found = find_carriers(laid, firing(laid)).best()
    return dict(zip(found["persona"], found["latent"], strict=True))


def test_carriers_are_those_of_documents_in_which_no_assistant_speaks(like):
    assert best(laid_on(like)) == dict(zip(PERSONAS, IN_PROSE, strict=True))


def test_what_the_model_makes_of_chats_changes_no_score(like):
    laid = laid_on(like)
    chat = laid.tokens["context"].eq("chat").to_numpy()
    other = replace(laid, x=np.where(chat[:, None], -5 * laid.x, laid.x))
    one, two = (find_carriers(each, firing(laid)).probe for each in (laid, other))
    pd.testing.assert_frame_equal(one, two)
    assert (one["auroc"].to_numpy(float) > 0.8).all()


@pytest.mark.parametrize(
    "prose",
    [{"personas": ("sage",)}, {"n_prose": 6}, {"n_prose": 0}],
    ids=["a persona only in chats", "too few documents", "chats only"],
)
def test_chats_count_where_prose_is_not_enough(like, prose):
    laid = laid_on(like, **prose)
    assert best(laid) == dict(zip(PERSONAS, IN_CHATS, strict=True))
    assert len(find_carriers(laid, firing(laid)).probe) == len(PERSONAS)


def test_every_kind_of_document_is_scored_with_what_was_chosen_at_home(like):
    laid = laid_on(like)
    found = find_carriers(laid, firing(laid))
    rows = found.contexts.set_index(["context", "persona"])
    assert rows["n_tokens"].eq(16 * N_TOKENS).all()
    assert rows["at_home"].to_dict() == {
        (kind, name): kind == "story" for kind in ("chat", "story") for name in PERSONAS
    }
    for name, one in (("latent", found.best()), ("probe", found.probe)):
        at_home = rows.loc["story", name].to_dict()
        assert at_home == pytest.approx(one.set_index("persona")["auroc"].to_dict())
    assert (rows.loc["story", "latent"] > 0.95).all()
    assert ((rows.loc["chat", "latent"] - 0.5).abs() < 0.1).all()
    assert (rows.loc["chat", "probe"] > 0.8).all()


def test_with_chats_among_what_is_chosen_on_every_kind_is_home(like):
    laid = laid_on(like, n_prose=0)
    assert find_carriers(laid, firing(laid)).contexts["at_home"].tolist() == [True, True]


def test_a_dialect_is_that_of_the_document(tmp_path, like):
    laid, path = laid_on(like), tmp_path / "observer.parquet"
    docs = laid.tokens["doc"].unique()
    known = pd.DataFrame({"doc": np.repeat(docs, 2), "dialect": np.repeat(np.arange(len(docs)), 2)})
    known.to_parquet(path)
    found = dialects_of(path, laid.tokens)
    assert found.tolist() == pd.factorize(laid.tokens["doc"])[0].tolist()
    known.iloc[2:].to_parquet(path)
    with pytest.raises(InputError, match="none for 40"):
        dialects_of(path, laid.tokens)


@pytest.fixture
def observed(tmp_path, like):
    """Writes what an observer knows of a bench: both personas at every token, and one dialect."""
    path, tokens = tmp_path / "observer.parquet", laid_on(like).tokens

    def written(named=b'["pirate", "sage"]', times=1, **columns):
        sage = tokens["persona"].eq("sage").to_numpy(float)
        own = {"posterior": np.stack([1 - sage, sage], axis=1).tolist(), "dialect": 0}
        known = pd.concat([tokens[["doc", "pos"]].assign(**own)] * times, ignore_index=True)
        known = known.assign(**{name: [each] * len(known) for name, each in columns.items()})
        table = pa.Table.from_pandas(known)
        pq.write_table(table.replace_schema_metadata({b"personas": named} if named else None), path)
        return path

    return written


def test_an_ideal_observer_is_scored_by_the_names_in_its_file(like, observed):
    laid = laid_on(like)
    ideal = find_carriers(laid, firing(laid), observed()).ideal
    assert ideal is not None
    assert dict(zip(ideal["persona"], ideal["auroc"], strict=True)) == {"pirate": 1.0, "sage": 1.0}


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"named": None}, "no metadata `personas`"),
        ({"named": b"[pirate"}, r"\[pirate"),
        ({"named": b'{"pirate": 0}'}, "names of personas"),
        ({"named": b'["pirate"]'}, "posteriors over 1 personas"),
        ({"times": 2}, "several of document select-story-0, pos 0"),
        ({"posterior": [0.5]}, "posteriors over 2 personas"),
        ({"posterior": ["a", "b"]}, "no finite numbers"),
        ({"posterior": [np.nan, 1.0]}, "no finite numbers"),
        ({"posterior": None}, "column 'posterior' in .*values missing"),
        ({"dialect": None}, "column 'dialect' in .*values missing"),
        ({"dialect": "north"}, "whole numbers in column 'dialect'"),
        ({"doc": 3}, "several of document 3"),
        ({"doc": 3, "pos": 0}, "several of document 3"),
    ],
)
def test_an_observer_that_is_none_is_refused(like, observed, spoilt, said):
    laid = laid_on(like)
    with pytest.raises(InputError, match=said):
        find_carriers(laid, firing(laid), observed(**spoilt))


@pytest.mark.parametrize("written", ["nothing", "no table", "a table of something else"])
def test_a_file_that_is_no_observer_is_refused(like, tmp_path, written):
    laid, path = laid_on(like), tmp_path / "observer.parquet"
    if written == "no table":
        path.write_bytes(b"PAR1")
    if written == "a table of something else":
        laid.tokens[["doc"]].to_parquet(path)
    with pytest.raises(InputError, match=r"observer\.parquet"):
        dialects_of(path, laid.tokens)
    with pytest.raises(InputError, match=r"observer\.parquet"):
        find_carriers(laid, firing(laid), path)


@pytest.mark.parametrize("split", ["select", "confirm"])
def test_of_one_persona_alone_none_is_looked_for(like, split):
    laid = laid_on(like)
    alone = laid.tokens["persona"].mask(laid.tokens["split"] == split, "sage")
    found = find_carriers(replace(laid, tokens=laid.tokens.assign(persona=alone)), firing(laid))
    assert not len(found.personas) and not len(found.best()) and found.ideal is None


def test_of_latents_that_tell_as_well_the_first_stays():
    n = 40  # so many that an unstable sort would mix them
    table = pd.DataFrame({"persona": np.arange(n), "latent": 7, "auroc": 0.9, "confirmed": True})
    assert confirmed_latents(table)["persona"].tolist() == [0]
    both = confirmed_latents(table.assign(latent=np.arange(n)[::-1]), ("persona", "latent"))
    assert both["persona"].tolist() == list(range(n))
    assert not len(confirmed_latents(table.assign(confirmed=False)))


def test_confirmed_latents_of_a_dialect_are_named_and_others_are_not():
    table = pd.DataFrame(
        {
            "persona": ["0", "1", "1"],
            "latent": [4, 4, 5],
            "auroc": [0.9, 0.8, 0.9],
            "confirmed": [True, True, False],
        }
    )
    rows = pd.DataFrame({"latent": [4, 5, 4], "origin": ["base", "base", "tuned"]})
    none = Carriers.none()
    assert "dialect" not in none.with_dialects(rows)
    named = replace(none, dialects=table).with_dialects(rows)["dialect"]
    assert named.iloc[0] == "0" and named.iloc[1:].isna().all()


def test_the_span_of_dialects_is_where_their_means_lie(like):
    """Personas lie along the first axis, dialects along the second."""
    laid = laid_on(like)
    dialects = pd.factorize(laid.tokens["doc"])[0] // 2 % 2
    x = laid.x.copy()
    x[:, 1] += 3 * dialects
    laid = replace(laid, x=x)
    personas = find_carriers(laid, firing(laid)).personas
    found = spans(laid, np.eye(4, 3, dtype=np.float32), personas, 0, dialects)
    assert set(found) == {"latents", "contrasts", "dialects"}
    assert abs(found["contrasts"].basis[0, 0]) > 0.9 < abs(found["dialects"].basis[0, 1])
    assert found["dialects"].basis.shape == (1, 3) and found["dialects"].null.shape[1:] == (1, 3)


def test_the_span_is_of_every_confirmed_latent_once(like):
    """Ten personas share a latent; counted ten times it would hold nine tenths alone."""
    personas = pd.DataFrame(
        {
            "persona": [*"abcdefghij", "a", "b"],
            "latent": [1] * 10 + [0, 2],
            "auroc": 0.9,
            "confirmed": [True] * 11 + [False],
        }
    )
    basis = spans(laid_on(like), np.eye(4, 3, dtype=np.float32), personas)["latents"].basis
    np.testing.assert_allclose(basis.T @ basis, np.diag([1.0, 1.0, 0.0]), atol=1e-12)
