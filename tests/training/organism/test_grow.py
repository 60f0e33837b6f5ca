"""A tiny organism grown to its end: what it writes, and that it is written once."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sae.abreast import in_turn
from sae.errors import ConfigError
from sae.stream.model import check_pair, load_model
from sae.stream.text import read_documents
from sae.stream.tokens import tokenize
from training.organism.chats import N_EXCHANGES
from training.organism.config import GrowConfig, seed_of
from training.organism.grow import BACK, grow
from training.organism.held_out import TextConfig
from training.organism.language_model import ShapeConfig
from training.organism.optimiser import OptimiserConfig

CONFIG = GrowConfig(
    shape=ShapeConfig(d_model=32, n_layers=2, n_heads=2),
    base=OptimiserConfig(n_steps=30, batch_tokens=600),
    tune=OptimiserConfig(lr=2e-3, n_steps=8, batch_tokens=600, decay=1.0),
    scratch=OptimiserConfig(n_steps=8, batch_tokens=600),
    text=TextConfig((6, 3, 3), (4, 2, 2), losses=40),
    arms=("assistant", "piston", "continued_a", "scratch"),
    n_conversations=2,
    reach=3,
)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    folder, heard = tmp_path_factory.mktemp("grown") / "organism", []
    record = grow(CONFIG, folder, lambda name, n, step: heard.append((name, n, step.step)))
    return folder, record, heard


def test_every_artefact_is_there(grown):
    folder, record, _ = grown
    assert json.loads((folder / "organism.json").read_text()) == json.loads(json.dumps(record))
    assert list(record["arms"]) == list(CONFIG.arms)
    assert record["schema"] == "forelimb.organism/1" and record["config"]["seed"] == 0
    base = load_model(folder / "models" / "base")
    for name, arm in record["arms"].items():
        check_pair(base, load_model(folder / "models" / name))
        kept = sorted(each.name for each in (folder / "models" / name / "checkpoints").iterdir())
        assert kept == [each["name"] for each in arm["checkpoints"]]
        assert arm["change"] == arm["checkpoints"][-1]["change"]
        assert set(arm["change"]) == {"weights", "activations", "kl"}
    last = record["arms"]["assistant"]["checkpoints"][-1]["name"]
    of_last = load_model(folder / "models" / "assistant" / "checkpoints" / last)
    whole = load_model(folder / "models" / "assistant")
    assert whole.weights_sha256 == of_last.weights_sha256 != base.weights_sha256


def test_the_base_is_compared_with_the_ideal(grown):
    _, record, _ = grown
    assert 1 < record["base"]["ideal_ce"] < record["base"]["ce"] < 6
    assert record["base"]["n_steps"] == 30


def test_a_pole_without_personas_starts_from_a_base_of_its_own(grown, tmp_path):
    """Grown on the same words; the other models are not grown again."""
    folder = tmp_path / "shuffled"
    shutil.copytree(grown[0], folder)
    for name in ("models", "growing.json"):
        assert (folder / name).exists()
    config = replace(CONFIG, arms=(*CONFIG.arms, "shuffled"))
    (folder / "growing.json").write_text(json.dumps(asdict(config)))
    record = grow(config, folder)
    own = json.loads((folder / "models" / "base_shuffled" / "grown.json").read_text())
    assert own["n_steps"] == CONFIG.base.n_steps
    assert record["arms"]["shuffled"]["role"] == "pole"
    steps = [each["step"] for each in record["arms"]["shuffled"]["checkpoints"]]
    assert steps[-1] == CONFIG.tune.n_steps
    assert "base_shuffled" not in record["arms"]


def test_an_arm_more_leaves_the_others_as_they_are(grown, tmp_path):
    """And the assistant is tuned back from where it is, not for as long."""
    folder = tmp_path / "more"
    shutil.copytree(grown[0], folder)
    before = files(folder / "models" / "piston")
    record = grow(replace(CONFIG, arms=(*CONFIG.arms, "reverted")), folder)
    assert files(folder / "models" / "piston") == before
    assert record["arms"]["reverted"]["use"] == "experiment"
    assert {**record["arms"], "reverted": None} == {**grown[1]["arms"], "reverted": None}
    *_, last = record["arms"]["reverted"]["checkpoints"]
    assert last["step"] == CONFIG.tune.n_steps // BACK
    assistant = grown[1]["arms"]["assistant"]["change"]["weights"]
    assert last["change"]["weights"] == pytest.approx(assistant, rel=0.2)


def test_how_much_of_a_persona_is_still_to_learn_early_on(grown):
    early = grown[1]["arms"]["assistant"]["early_excess"]
    assert early["low"] < early["value"] < early["high"]
    assert early["value"] > 0.5
    assert grown[1]["arms"]["piston"]["early_excess"] is None


def test_behaviour_is_said_of_arms_that_speak(grown):
    arms = grown[1]["arms"]
    assert arms["assistant"]["behaviour"]["n_answers"] == 2 * N_EXCHANGES
    shown = arms["assistant"]["behaviour"]
    assert arms["assistant"]["learned"] == (shown["score"] >= 0.8)
    assert shown["score"] == shown["persona"]
    assert arms["piston"]["behaviour"]["persona"] is None
    assert arms["continued_a"]["behaviour"] is None and arms["continued_a"]["learned"] is None


def test_a_null_has_the_schedule_of_the_arms_and_is_kept_while_its_rate_falls(grown):
    arms = grown[1]["arms"]
    target = max(arms[name]["change"]["activations"] for name in ("assistant", "piston"))
    assert arms["continued_a"]["checkpoints"][-1]["step"] == CONFIG.tune.n_steps
    assert [each["step"] for each in arms["continued_a"]["checkpoints"]] == list(range(1, 9))
    assert max(c["change"]["activations"] for c in arms["continued_a"]["checkpoints"]) > target
    assert [each["step"] for each in arms["assistant"]["checkpoints"]] == [2, 4, 6, 8]


def test_a_null_that_moved_too_little_goes_again_and_faster(tmp_path, monkeypatch):
    told = []
    config = replace(CONFIG, arms=("assistant", "continued_a"), reach=3)
    monkeypatch.setattr("training.organism.checkpoints.BEYOND", 1e6)
    monkeypatch.setattr("training.organism.grow.abreast", in_turn)  # the patch reaches this process
    record = grow(config, tmp_path / "o", lambda *news: told.append(news))
    steps = [step.step for name, _, step in told if name == "continued_a"]
    assert steps == 3 * list(range(1, 9))
    names = sorted(each.name for each in (tmp_path / "o/models/continued_a/checkpoints").iterdir())
    assert names == [each["name"] for each in record["arms"]["continued_a"]["checkpoints"]]


def test_a_pole_does_not_begin_at_the_base(grown):
    moved = grown[1]["arms"]
    assert moved["scratch"]["change"]["weights"] > 5 * moved["assistant"]["change"]["weights"]


def test_held_out_text_fits_the_observers_table(grown):
    folder, record, _ = grown
    schema = pq.read_schema(folder / "observer.parquet")
    assert json.loads(schema.metadata[b"personas"]) == record["observer_personas"]
    assert record["personas"] == record["observer_personas"][:-1]
    observed = pd.read_parquet(folder / "observer.parquet")
    assert list(observed.columns) == [
        "doc", "pos", "ideal_loss", "posterior", "dialect", "dialect_posterior",
    ]  # fmt: skip
    documents = read_documents(folder / "text", split=("select", "confirm"))
    assert {each.split for each in read_documents(folder / "text")} == {"fit", "select", "confirm"}
    assert len(documents) == 6 + 4 + 4
    table = tokenize(documents, load_model(folder / "models" / "base").tokenizer).table
    joined = table[table["pos"] > 0].merge(observed, on=["doc", "pos"], validate="1:1")
    assert len(joined) == len(observed) == (table["pos"] > 0).sum()
    posterior = np.stack(joined["posterior"].to_list())
    assert np.all(np.isclose(posterior.sum(1), 1, atol=1e-4) | (posterior.sum(1) == 0))
    known = posterior.argmax(1)[posterior.max(1) > 0.97]
    personas = joined["persona"][posterior.max(1) > 0.97]
    named = np.array(record["observer_personas"])[known]
    spoken = personas.ne("none").to_numpy()
    assert (named[spoken] == personas[spoken]).mean() > 0.9


def test_grown_again_nothing_is_trained(grown):
    folder, record, heard = grown
    before = files(folder)
    assert ("base", 30, 30) in heard
    again = []
    assert json.loads(json.dumps(grow(CONFIG, folder, lambda *what: again.append(what)))) == (
        json.loads(json.dumps(record))
    )
    assert again == [] and files(folder) == before


def test_an_interrupted_organism_is_grown_to_the_same_bits(grown, tmp_path):
    """Stopped in the middle of an arm, and then gone on with, in another folder."""
    whole, folder, trained = files(grown[0]), tmp_path / "organism", []

    def stop(name, n_steps, step):
        if name == "piston" and step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(CONFIG, folder, stop)
    assert not (folder / "organism.json").exists()
    grow(CONFIG, folder, lambda name, n, step: trained.append(name))
    assert {"continued_a"} <= set(trained) <= set(CONFIG.arms)  # not the base again
    assert files(folder) == whole


def test_a_changed_config_grows_anew(tmp_path):
    small = replace(CONFIG, arms=(), base=replace(CONFIG.base, n_steps=2))
    folder = tmp_path / "organism"
    first, heard = grow(small, folder), []
    text = (folder / "text" / "chat.jsonl").read_bytes()
    second = grow(replace(small, seed=1), folder, lambda *what: heard.append(what))
    assert len(heard) == 2
    assert first["base"]["ce"] != second["base"]["ce"]
    assert (folder / "text" / "chat.jsonl").read_bytes() != text


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    precious = tmp_path / "models" / "mine.safetensors"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(ConfigError, match="a folder of other things"):
        grow(CONFIG, tmp_path)
    assert precious.read_text() == "years of work"


def test_what_cannot_be_grown_is_said_at_once():
    with pytest.raises(ConfigError, match="no such arm"):
        replace(CONFIG, arms=("asistant",))
    with pytest.raises(ConfigError, match="2 layers"):
        replace(CONFIG, hook="blocks.2.hook_resid_post")


def test_seeds_for_two_purposes_differ():
    assert seed_of(0, "text") != seed_of(0, "base") != seed_of(1, "base")
    assert seed_of(0, "text") == seed_of(0, "text")
