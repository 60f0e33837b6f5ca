"""activations.py: what comes out is what the model computes, and only for real tokens."""

import copy

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from sae.errors import ConfigError, InputError
from sae.stream.activations import (
    HookPoint,
    activations,
    harvest,
    logits,
    logits_with,
    outliers,
    padded,
)
from sae.stream.model import bridge, load_model
from sae.stream.text import Document, Turn
from sae.stream.tokens import tokenize


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


def others(tokenizer):
    size = {"vocab_size": len(tokenizer), "num_hidden_layers": 3, "num_attention_heads": 2}
    size |= {"bos_token_id": 2, "eos_token_id": 3, "hidden_size": 16}
    yield load_model(GPT2LMHeadModel(GPT2Config(**size, n_positions=64)), tokenizer)
    yield load_model(GPTNeoXForCausalLM(GPTNeoXConfig(**size, intermediate_size=32)), tokenizer)


def test_names_are_parsed_and_written():
    for name in ("blocks.0.hook_resid_pre", "blocks.12.hook_resid_post"):
        assert str(HookPoint.parse(name)) == name
    for name in ("blocks.x.hook_resid_pre", "layers.1.hook_resid_pre", "blocks.1.hook_mlp", ""):
        with pytest.raises(ConfigError, match=r"blocks\.LAYER\.hook_resid_pre"):
            HookPoint.parse(name)
    with pytest.raises(ConfigError, match="nearest is"):
        HookPoint(-1, "resid_pre")


def test_a_hook_that_does_not_exist_names_those_that_do(tiny_model):
    ids, mask = padded([np.array([2, 9, 10])])
    with pytest.raises(ConfigError) as caught:
        activations(tiny_model, ids, mask, [HookPoint(1, "resid_pre"), HookPoint(3, "resid_post")])
    assert all(name in str(caught.value) for name in tiny_model.hooks)
    assert "nearest is blocks.2.hook_resid_post" in str(caught.value)
    with pytest.raises(ConfigError, match=r"blocks\.7\.hook_resid_pre of LlamaForCausalLM"):
        logits_with(tiny_model, ids, mask, HookPoint(7, "resid_pre"), torch.zeros_like)
    assert not hooks_left(tiny_model)


def hooks_left(model):
    """Hooks of ours; Hugging Face leaves some of its own once hidden states were asked for."""
    return [
        hook
        for layer in model.layers
        for hook in [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
        if hook.__module__ == "sae.stream.activations"
    ]


def test_a_stopped_pass_equals_the_hidden_states_of_a_whole_one(tiny_model, text):
    for model in (tiny_model, *others(tiny_model.tokenizer)):
        ids, mask = padded(text.ids[:4])
        whole = model.module(ids, attention_mask=mask.long(), output_hidden_states=True)
        states = whole.hidden_states
        for layer in range(model.n_layers):
            pre, post = HookPoint(layer, "resid_pre"), HookPoint(layer, "resid_post")
            found = activations(model, ids, mask, [post, pre])
            assert list(found) == [post, pre]
            assert torch.equal(found[pre][mask], states[layer][mask])
            if layer < model.n_layers - 1:
                assert torch.equal(found[post][mask], states[layer + 1][mask])
        norm = getattr(model.module.base_model, "norm", None)
        norm = norm or getattr(model.module.base_model, "ln_f", None)
        norm = norm or model.module.base_model.final_layer_norm
        assert torch.equal(norm(found[post])[mask], states[-1][mask])
        assert not hooks_left(model)


def test_the_pass_stops_after_the_last_hook(tiny_model):
    ids, mask = padded([np.array([2, 9, 10])])
    ran = []
    handles = [
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(tiny_model.layers)
    ]
    try:
        activations(tiny_model, ids, mask, [HookPoint(1, "resid_post"), HookPoint(0, "resid_pre")])
        assert ran == [0, 1]
        ran.clear()
        activations(tiny_model, ids, mask, [HookPoint(0, "resid_pre")])
        assert ran == []
    finally:
        for handle in handles:
            handle.remove()


def test_resid_pre_of_the_first_layer_is_the_embedding(tiny_model):
    ids, mask = padded([np.array([2, 9, 10])])
    hook = HookPoint(0, "resid_pre")
    embedding = tiny_model.module.get_input_embeddings()(ids)
    assert torch.equal(activations(tiny_model, ids, mask, [hook])[hook], embedding)


def test_padding_does_not_change_activations(tiny_model, text):
    hook = HookPoint(2, "resid_post")
    together = torch.cat([x[hook] for _, x in harvest(tiny_model, text, [hook])])
    alone = torch.cat([x[hook] for _, x in harvest(tiny_model, text, [hook], batch_documents=1)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_rows_follow_the_table_and_padding_never_comes_out(tiny_model, text):
    hook = HookPoint(0, "resid_pre")
    embedding = tiny_model.module.get_input_embeddings().weight
    at = 0
    for rows, found in harvest(tiny_model, text, [hook], batch_documents=7):
        assert rows.start == at
        at = rows.stop
        wanted = embedding[torch.from_numpy(text.table["token_id"].to_numpy(copy=True)[rows])]
        assert torch.equal(found[hook], wanted)
    assert at == text.n_tokens


def test_the_same_as_the_bridge(tiny_model, text):
    ids, mask = padded(text.ids[:8])  # of one length
    _, cache = bridge(tiny_model).run_with_cache(ids)
    hooks = [HookPoint.parse(name) for name in tiny_model.hooks]
    for hook, x in activations(tiny_model, ids, mask, hooks).items():
        torch.testing.assert_close(x, cache[str(hook)], atol=1e-4, rtol=0)


def test_numbers_that_are_not_finite_are_an_input_error(tiny_model):
    module = copy.deepcopy(tiny_model.module)
    with torch.no_grad():
        module.get_input_embeddings().weight[9] = float("nan")
    model = load_model(module, tiny_model.tokenizer)
    hook = HookPoint(1, "resid_post")
    ids, mask = padded([np.array([2, 9, 10])])
    with pytest.raises(InputError, match=r"blocks\.1\.hook_resid_post of LlamaForCausalLM.*NaN"):
        activations(model, ids, mask, [hook])
    embedded = HookPoint(0, "resid_pre")  # where only one of three tokens is NaN
    with pytest.raises(InputError, match="NaN"):
        activations(model, ids, mask, [embedded])
    mask[0, 1] = False
    activations(model, ids, mask, [embedded])  # padding may hold anything


def test_a_hook_that_does_not_fire_is_an_input_error(tiny_model):
    module = copy.deepcopy(tiny_model.module)
    module.config.num_hidden_layers = 2  # the pass now leaves out layer 2
    model = load_model(module, tiny_model.tokenizer)
    ids, mask = padded([np.array([2, 9, 10])])
    with pytest.raises(InputError, match=r"blocks\.2\.hook_resid_post.*without it"):
        activations(model, ids, mask, [HookPoint(2, "resid_post")])


def test_logits_with_a_residual_replaced(tiny_model, text):
    for model in (tiny_model, *others(tiny_model.tokenizer)):
        ids, mask = padded(text.ids[6:10])
        clean = logits(model, ids, mask)
        whole = model.module(ids, attention_mask=mask.long()).logits
        assert torch.equal(clean[mask], whole[mask])
        for name in model.hooks:
            hook = HookPoint.parse(name)
            same = logits_with(model, ids, mask, hook, lambda x: x.clone())
            assert torch.equal(same[mask], clean[mask])
            x = activations(model, ids.flip(0), mask.flip(0), [hook])[hook]
            swapped = logits_with(model, ids.flip(0), mask, hook, lambda _, x=x: x.flip(0))
            torch.testing.assert_close(swapped[mask], clean[mask], atol=1e-5, rtol=0)
            zero = logits_with(model, ids, mask, hook, torch.zeros_like)
            assert not torch.allclose(zero[mask], clean[mask], atol=1e-3)
        assert not hooks_left(model)


def test_a_replacement_takes_the_type_of_the_model(tiny_model):
    model = load_model(copy.deepcopy(tiny_model.module), tiny_model.tokenizer, dtype=torch.bfloat16)
    ids, mask = padded([np.array([2, 9, 10])])
    hook = HookPoint(1, "resid_post")
    assert logits_with(model, ids, mask, hook, lambda x: x.float()).dtype == torch.bfloat16


def test_outliers_are_long_against_the_median():
    x = torch.ones(9, 4)
    x[2] *= 9.9
    x[5] *= 10.1
    assert outliers(x).nonzero().flatten().tolist() == [5]
    assert outliers(x, factor=5.0).nonzero().flatten().tolist() == [2, 5]
    assert outliers(x[:0]).tolist() == []


def test_a_real_model(stories):
    model = load_model(stories)
    turns = (Turn("narrator", "One day, a little girl named Lily found a needle in her room."),)
    text = tokenize([Document("d", "s", "fit", turns, "story")], model.tokenizer)
    ids, mask = padded(text.ids)
    hook = HookPoint(2, "resid_post")
    states = model.module(ids, output_hidden_states=True).hidden_states
    assert torch.equal(activations(model, ids, mask, [hook])[hook], states[3])
    loss = torch.nn.functional.cross_entropy(logits(model, ids, mask)[0, :-1], ids[0, 1:])
    assert loss < 2  # nats a token; it would be 6.2 without a model
