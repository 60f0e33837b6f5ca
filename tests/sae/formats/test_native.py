import json
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sae
from sae.dictionary import BatchTopKConfig, Sae, SaeConfig, TopKConfig, initialise_
from sae.errors import ConfigError, InputError, NumericalError
from sae.formats.native import META_KEYS, SCHEMA, WEIGHTS

META = {
    "hook": "blocks.0.hook_resid_post",
    "model": "tiny",
    "tokenizer_sha256": "ab" * 32,
    "n_tokens": 1000,
    "metrics": {"fvu": 0.25},
    "arm": "größer",
}


def fitted():
    dictionary = Sae(SaeConfig(4, 8, BatchTopKConfig(k=2), prefixes=(4,)))
    sample = 3 * torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    initialise_(dictionary, sample, seed=0)
    dictionary.encode(sample)
    return dictionary


@pytest.fixture
def folder(tmp_path):
    sae.write(tmp_path / "dictionary", fitted(), META)
    return tmp_path / "dictionary"


def header_of(path):
    with safe_open(path, framework="pt") as opened:
        return opened.metadata()


def rewritten(folder, tensors=None, digest=True, **header):
    """The folder's file with other content under a digest that fits, as a forger would write it."""
    from sae.formats.native import _digest

    tensors = {**load_file(folder / WEIGHTS), **(tensors or {})}
    tensors = {name: each for name, each in tensors.items() if each is not None}
    told = {**header_of(folder / WEIGHTS), **header}
    told = {name: text for name, text in told.items() if text is not None}
    if digest:
        told["sha256"] = json.dumps(_digest(told, tensors))
    save_file(tensors, folder / WEIGHTS, metadata=told)
    return folder


def refusal(path):
    with pytest.raises(InputError) as caught:
        sae.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 3
    return message


def test_what_is_read_is_what_was_written_folded(folder):
    source = fitted()
    twin, meta = sae.read(folder)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(twin(x).x_hat, source.folded().eval()(x).x_hat)
    assert not twin.training
    assert twin.input_scale == 1
    assert all(each.requires_grad for each in twin.parameters())
    assert {name: meta[name] for name in META} == META
    assert set(META_KEYS) <= set(meta)
    assert (meta["units"], meta["is_folded"], meta["revision"]) == ("activation", True, None)
    assert meta["trained_input_scale"] == source.input_scale.item()


def test_the_file_alone_is_enough(folder, tmp_path):
    alone = tmp_path / "renamed.safetensors"
    (folder / WEIGHTS).rename(alone)
    assert sae.read(str(alone))[1]["hook"] == META["hook"]


def test_the_files_beside_are_plain_json(folder):
    assert json.loads((folder / "eval.json").read_text()) == META["metrics"]
    config = json.loads((folder / "config.json").read_text())
    assert config["sparsity"]["kind"] == "batch_topk"
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["model"] == "tiny"
    assert provenance["sha256"] == json.loads(header_of(folder / WEIGHTS)["sha256"])
    assert not list(folder.glob(".*"))


def test_writing_keeps_what_else_is_there_and_replaces_its_own(folder):
    (folder / "metrics.jsonl").write_text("kept")
    sae.write(folder, fitted().added(3, torch.Generator()), {})
    assert sae.read(folder)[0].config.d_sae == 11
    assert (folder / "metrics.jsonl").read_text() == "kept"


def test_the_same_dictionary_gives_the_same_bytes(folder, tmp_path):
    script = (
        "import sys, sae; dictionary, meta = sae.read(sys.argv[1]);"
        "own = ('units', 'is_folded', 'trained_input_scale');"
        "sae.write(sys.argv[2], dictionary, {k: v for k, v in meta.items() if k not in own})"
    )
    written = []
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", script, folder, tmp_path / name], check=True)
        written.append((tmp_path / name / WEIGHTS).read_bytes())
    assert written[0] == written[1]


def test_a_half_precision_dictionary_stays_one(tmp_path):
    half = Sae(SaeConfig(4, 8, TopKConfig(k=2))).bfloat16()
    sae.write(tmp_path, half, {})
    assert sae.read(tmp_path)[0].W_dec.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"schema": "mine"}, "a name the format uses itself"),
        ({"metrics": {"fvu": float("nan")}}, "give values JSON can hold"),
        ({"model": object()}, "give values JSON can hold"),
    ],
)
def test_meta_must_fit_the_header(tmp_path, meta, message):
    with pytest.raises(ConfigError, match=message):
        sae.write(tmp_path, fitted(), meta)
    assert not list(tmp_path.iterdir())


def test_weights_that_left_the_numbers_are_not_written(tmp_path):
    broken = fitted()
    with torch.no_grad():
        broken.b_enc[0] = float("nan")
    with pytest.raises(NumericalError, match="b_enc"):
        sae.write(tmp_path, broken, {})
    assert not list(tmp_path.iterdir())


def test_nothing_there(tmp_path):
    assert "FileNotFoundError" in refusal(tmp_path / "nowhere")
    assert "a folder holding nothing" in refusal(tmp_path)
    (tmp_path / "sae_weights.safetensors").touch()
    assert "a folder holding sae_weights.safetensors" in refusal(tmp_path)
    assert "nothing there" in refusal("a\0b")


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    for protocol in (2, 5):
        (tmp_path / WEIGHTS).write_bytes(pickle.dumps(Trap(), protocol=protocol))
        assert "a pickle or a zip archive, which is never opened" in refusal(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(pickle.dumps(Trap(), protocol=0))
    refusal(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "sae.pt")
    assert "never opened" in refusal(tmp_path / "sae.pt")


def test_a_header_as_long_as_pickles_begin_is_read(folder):
    for padding in range(400):
        path = rewritten(folder, note=json.dumps("-" * padding)) / WEIGHTS
        if path.read_bytes()[:1] in (b"\x80", b"P"):
            assert sae.read(folder)[1]["note"] == "-" * padding
            return
    pytest.fail("no such length")


def test_another_formats_safetensors(tmp_path):
    save_file({"W_dec": torch.zeros(2, 2)}, tmp_path / WEIGHTS)
    assert f"another format's safetensors, not {SCHEMA}" in refusal(tmp_path)


def test_a_later_schema(folder):
    message = refusal(rewritten(folder, schema='"forelimb.dictionary/2"'))
    assert 'schema "forelimb.dictionary/2", not forelimb.dictionary/1' in message


@pytest.mark.parametrize(
    "config", ["", "[]", "null", "[" * 100_000, '{"d_in": 4}', '{"d_in": "4"}', None]
)
def test_a_config_that_is_none(folder, config):
    assert "no usable config" in refusal(rewritten(folder, config=config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_sae": 9}, "W_dec of shape [8, 4], where its config says [9, 4]"),
        ({"d_sae": 10**15}, "where its config says [1000000000000000, 4]"),
        ({"sparsity": {"kind": "topk", "k": 2}}, "where its config says None"),
    ],
)
def test_a_config_its_tensors_disagree_with(folder, changes, message):
    config = json.loads(header_of(folder / WEIGHTS)["config"]) | changes
    assert message in refusal(rewritten(folder, config=json.dumps(config)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"W_dec": None}, "W_dec"),
        ({"b_enc": None}, "b_enc of shape None, where its config says (8,)"),
        ({"b_enc": torch.zeros(7)}, "b_enc of shape (7,)"),
        ({"W_enc": torch.zeros(8, 4)}, "W_enc of shape (8, 4), where its config says (4, 8)"),
        ({"extra": torch.zeros(1)}, "extra of shape (1,)"),
        ({"b_enc": torch.zeros(8, dtype=torch.int32)}, "b_enc of type torch.int32"),
        ({"b_enc": torch.zeros(8).to(torch.float8_e5m2)}, "b_enc of type torch.float8_e5m2"),
        ({"b_enc": torch.zeros(8).half()}, "different types: ['torch.float16', 'torch.float32']"),
        ({"sparsity.n_updates": torch.tensor(True)}, "n_updates of type torch.bool"),
        ({"input_scale": torch.tensor(2.0).double()}, "input_scale 2, so not folded"),
        ({"b_dec": torch.full((4,), float("inf"))}, "b_dec with values that are not finite"),
    ],
)
def test_tensors_that_are_no_dictionary(folder, tensors, message):
    assert message in refusal(rewritten(folder, tensors))


@pytest.mark.parametrize("hook", ["blocks", "[" * 100_000])
def test_a_header_that_is_not_json(folder, hook):
    assert "a header that is not JSON" in refusal(rewritten(folder, hook=hook))


def test_content_that_was_changed(folder):
    message = refusal(rewritten(folder, digest=False, hook='"blocks.1.hook_resid_post"'))
    assert "content that does not match its own sha256" in message
    assert "sha256" in refusal(rewritten(folder, digest=False, sha256=None))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_truncation_is_noticed(folder, data):
    whole = (folder / WEIGHTS).read_bytes()
    cut = folder / "cut.safetensors"
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refusal(cut)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_is_refused_or_makes_no_difference(folder, data):
    whole = bytearray((folder / WEIGHTS).read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    changed = folder / "changed.safetensors"
    changed.write_bytes(whole)
    try:
        twin, meta = sae.read(changed)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        original, told = sae.read(folder)
        assert meta == told
        assert all(
            torch.equal(a, b)
            for a, b in zip(twin.state_dict().values(), original.state_dict().values(), strict=True)
        )


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path, content):
    (tmp_path / WEIGHTS).write_bytes(content)
    refusal(tmp_path)
