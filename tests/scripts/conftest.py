"""Models and text on disk, and doors opened inside this process."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from sae.stream.text import write_documents
from scripts._cli import run


@pytest.fixture(scope="session")
def corpus(documents, tmp_path_factory) -> Path:
    """Jsonl of 288 documents, of which 144 are to fit on and 72 to judge by."""
    path = tmp_path_factory.mktemp("text") / "tiny.jsonl"
    write_documents(
        path, [replace(each, id=f"{each.id}-{i}") for i in range(12) for each in documents]
    )
    return path


@pytest.fixture(scope="session")
def models(tiny_model, tiny_tokenizer, tmp_path_factory) -> Path:
    """Folder of saved models: base, twins, and one for each way not to be a twin."""
    home = tmp_path_factory.mktemp("models")

    def save(name, module, tokenizer=tiny_tokenizer):
        module.save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)

    def moved(seed, size):
        module, draw = copy.deepcopy(tiny_model.module), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for each in module.parameters():
                each += size * torch.randn(each.shape, generator=draw)
        return module

    save("base", tiny_model.module)
    save("twin", moved(1, 0.02))
    save("other", moved(2, 0.05))
    save("nan", moved(3, float("nan")))
    shape = copy.deepcopy(tiny_model.module.config)
    shape.hidden_size = 32
    shape.head_dim = 16
    save("wide", LlamaForCausalLM(shape))
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens(["zebra"])
    save("words", tiny_model.module, tokenizer)
    return home


@pytest.fixture
def door(capsys):
    """Opens a door inside this process; gives its exit code and what it said on stderr."""

    def opened(module, *words):
        code = run(module.main, module.Config, [str(each) for each in words])
        return code, capsys.readouterr().err

    return opened


@pytest.fixture
def refused(door):
    """Opens a door that ends in one line, with the code given, and leaves no folder."""

    def opened(module, code, out, *words):
        ended, said = door(module, *words, "--out", out)
        assert ended == code, said
        assert said.startswith("forelimb: asked: "), said
        assert said.count("\n") == 1, said
        assert not Path(out).exists()
        return said

    return opened
