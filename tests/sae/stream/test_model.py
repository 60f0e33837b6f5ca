"""model.py: what is loaded is what was saved, and a bridge leaves it alone."""

import copy
import json

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig
from transformers import GPTNeoXForCausalLM as NeoX

from sae.errors import ConfigError, InputError, NumericalError
from sae.stream.model import LanguageModel, bridge, check_pair, load_model, parity


@pytest.fixture
def folder(tmp_path, tiny_model):
    tiny_model.module.save_pretrained(tmp_path / "tiny")
    tiny_model.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_saved_model_is_loaded_unchanged(folder, tiny_model):
    for source in (folder, str(folder)):
        model = load_model(source)
        assert model.weights_sha256 == tiny_model.weights_sha256
        assert model.tokenizer_hash == tiny_model.tokenizer_hash
        assert model.name == str(folder)
        assert not model.module.training
    assert (model.n_layers, model.d_in, model.device.type) == (3, 16, "cpu")
    assert model.hooks[:3] == [
        "blocks.0.hook_resid_pre",
        "blocks.0.hook_resid_post",
        "blocks.1.hook_resid_pre",
    ]
    assert len(model.hooks) == 6


def test_the_hash_of_weights_sees_one_changed_number(tiny_model):
    module = copy.deepcopy(tiny_model.module)
    with torch.no_grad():
        module.model.layers[2].mlp.down_proj.weight[3, 4] += 1e-6
    assert load_model(module, tiny_model.tokenizer).weights_sha256 != tiny_model.weights_sha256


def test_weights_of_half_width_are_hashed_and_kept(folder):
    model = load_model(folder, dtype=torch.bfloat16)
    assert model.module.dtype == torch.bfloat16
    assert model.weights_sha256 != load_model(folder).weights_sha256


def test_the_tokenizer_hash_ignores_how_the_tokenizer_was_used(tiny_tokenizer, tiny_model):
    before = tiny_model.tokenizer_hash
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer(["a ship", "a"], padding=True, truncation=True, max_length=3)
    tokenizer.chat_template = None
    assert load_model(tiny_model.module, tokenizer).tokenizer_hash == before
    tokenizer.add_tokens(["zeppelin"])
    assert load_model(tiny_model.module, tokenizer).tokenizer_hash != before


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path, folder, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for nowhere in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "./nowhere", "models/nowhere"):
        with pytest.raises(InputError, match="nowhere.*no such folder"):
            load_model(nowhere)
    with pytest.raises(ConfigError, match="no tokenizer"):
        load_model(tiny_model.module)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="tiny") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    weights.unlink()
    torch.save(tiny_model.module.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors weights"):
        load_model(folder)


def test_an_unknown_hub_id_is_one_line(monkeypatch):
    def refuse(name, **_):
        raise OSError(f"{name} is not a valid model identifier\nIf this is a private repository")

    monkeypatch.setattr("sae.stream.model.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(InputError, match=r"model nobody/nothing.*valid model identifier; do:"):
        load_model("nobody/nothing")


def test_missing_weights_are_not_made_up(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(InputError, match=r"no weights for model\.layers\.3"):
        load_model(folder)


def test_a_folder_without_tokenizer(folder, tiny_tokenizer):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="tokenizer of"):
        load_model(folder)
    assert load_model(folder, tiny_tokenizer).tokenizer is tiny_tokenizer


def test_a_pair_must_match(tiny_model, tiny_tokenizer):
    check_pair(tiny_model, tiny_model)
    config = copy.deepcopy(tiny_model.module.config)
    config.hidden_size = 32
    wide = load_model(type(tiny_model.module)(config), tiny_tokenizer)
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM.*d_in 16 against 32"):
        check_pair(tiny_model, wide)
    other = copy.deepcopy(tiny_tokenizer)
    other.add_tokens(["zeppelin"])
    with pytest.raises(ConfigError, match="tokenizer_hash"):
        check_pair(tiny_model, load_model(tiny_model.module, other))


def architectures(tokenizer):
    size = {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"bos_token_id": 2, "eos_token_id": 3}
    neox = GPTNeoXConfig(**size, hidden_size=16, intermediate_size=32)
    return [GPT2LMHeadModel(GPT2Config(**size, hidden_size=16, n_positions=64)), NeoX(neox)]


def test_other_architectures_have_their_layers_found(tiny_tokenizer):
    for module in architectures(tiny_tokenizer):
        model = load_model(module, tiny_tokenizer)
        assert (model.n_layers, model.d_in) == (2, 16)
        assert parity(model) <= 1e-4


def test_layers_in_no_known_place(tiny_model):
    module = copy.deepcopy(tiny_model.module)
    module.model = nn.Module()
    with pytest.raises(ConfigError, match="decoder-only"):
        _ = LanguageModel(module, tiny_model.tokenizer, "odd").layers


def test_the_bridge_agrees_and_leaves_the_model_alone(tiny_model, tmp_path):
    before, padding = tiny_model.weights_sha256, tiny_model.tokenizer.padding_side
    names = [name for name, _ in tiny_model.module.named_modules()]
    bridged = bridge(tiny_model)
    assert parity(tiny_model) <= 1e-4
    ids = torch.arange(12).reshape(2, 6)
    _, cache = bridged.run_with_cache(ids)
    states = tiny_model.module(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(cache["blocks.1.hook_resid_post"], states[2], atol=1e-4, rtol=0)
    assert [name for name, _ in tiny_model.module.named_modules()] == names
    assert tiny_model.weights_sha256 == before
    assert tiny_model.tokenizer.padding_side == padding
    assert tiny_model.module.config._attn_implementation == "sdpa"
    tiny_model.module.save_pretrained(tmp_path / "after")
    tiny_model.tokenizer.save_pretrained(tmp_path / "after")
    assert load_model(tmp_path / "after").weights_sha256 == before


def test_a_bridge_that_disagrees_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr("sae.stream.model._difference", lambda *_: float("nan"))
    with pytest.raises(NumericalError, match="logits that differ by nan"):
        bridge(tiny_model)


def test_a_real_model(stories):
    model = load_model(stories)
    assert (model.n_layers, model.d_in) == (5, 64)
    assert parity(model) <= 1e-4
    assert (
        model.tokenizer_hash
        == load_model(stories, AutoTokenizer.from_pretrained(stories)).tokenizer_hash
    )
