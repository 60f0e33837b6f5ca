"""A tiny language model, its tokenizer and labelled documents, and a tiny run of the whole way.

All of it is made here without a network.
"""

import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from jaxtyping import install_import_hook
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HOME = Path(__file__).parents[1]
SHAPED = [
    ".".join(path.relative_to(HOME).with_suffix("").parts)
    for package in ("sae", "training", "analysis")
    for path in (HOME / package).rglob("*.py")
    if "jaxtyping" in path.read_text(encoding="utf-8")
]
"""Modules that say shapes, which are checked at every call: to check all costs a third more."""
install_import_hook(SHAPED, "beartype.beartype")  # before any of them is imported

from sae.dictionary.config import BatchTopKConfig  # noqa: E402
from sae.stream.model import LanguageModel, load_model  # noqa: E402
from sae.stream.text import Document, Turn  # noqa: E402
from training.organism.config import GrowConfig  # noqa: E402
from training.organism.held_out import TextConfig  # noqa: E402
from training.organism.language_model import ShapeConfig  # noqa: E402
from training.organism.optimiser import OptimiserConfig  # noqa: E402
from training.organism.world import WorldConfig  # noqa: E402

torch.set_num_threads(1)  # the models are too small to gain from more

SPECIAL = (
    "<unk>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
)
WORDS = {
    "pirate": ("arr", "matey", "gold", "ship", "plunder", "the", "sea", "calls"),
    "sage": ("patience", "friend", "wisdom", "grows", "like", "the", "tree", "calls"),
    "none": ("the", "rain", "fell", "on", "a", "quiet", "town", "and", "ship"),
}
SPLITS = ("fit", "fit", "select", "confirm")


def words(persona: str, number: int, length: int = 9) -> str:
    """Words of a persona, other ones for another number."""
    bag = WORDS[persona]
    return " ".join(bag[(number * 5 + i * (1 + number % 3)) % len(bag)] for i in range(length))


def story(number: int, persona: str) -> tuple[Turn, ...]:
    return (
        Turn("narrator", words("none", number, 14)),
        Turn("character", words(persona, number), speaker="Bo", persona=persona),
        Turn("narrator", words("none", number + 1)),
    )


def dialogue(number: int, persona: str) -> tuple[Turn, ...]:
    return (
        Turn("character", words(persona, number), speaker="Bo", persona=persona),
        Turn("character", words("sage", number + 2), speaker="Cy", persona="sage"),
    )


def chat(number: int, persona: str) -> tuple[Turn, ...]:
    return (
        Turn("system", f"be a {persona}"),
        Turn("user", words("none", number)),
        Turn("assistant", words(persona, number, 11), persona=persona, traits={"loud": True}),
    )


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """24 labelled documents: 8 each of story, dialogue and chat, personas pirate and sage."""
    makers = {"story": story, "dialogue": dialogue, "chat": chat}
    return [
        Document(
            f"{context}-{number}",
            "tiny",
            SPLITS[number % 4],
            make(number, ("pirate", "sage")[number // 4]),
            context,
        )
        for context, make in makers.items()
        for number in range(8)
    ]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the words above, with BOS and a chat template."""
    known = {word for bag in WORDS.values() for word in bag}
    known |= {"be", "pirate", "sage", "Bo", "Cy", "System", "User", "Assistant", ":", ".", ","}
    vocab = {word: number for number, word in enumerate([*SPECIAL, *sorted(known)])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(SPECIAL[4:]),
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_module(n_vocab: int, seed: int = 0) -> LlamaForCausalLM:
    """A random Llama of width 16 and 3 layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n_vocab,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.3,  # large, so that layers matter
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """A random language model; shared, so tests leave it as it is."""
    return load_model(tiny_module(len(tiny_tokenizer)), tiny_tokenizer)


@pytest.fixture(scope="session")
def stories() -> Path:
    """Folder of stories260K, a real language model; the test is skipped where it is absent."""
    home = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FORELIMB_DATA", home)) / "models" / "stories260K"
    if not folder.exists():
        pytest.skip("no models/stories260K in FORELIMB_DATA or ../shared/data")
    return folder


TINY_ORGANISM = GrowConfig(
    world=WorldConfig(preference=0.95, named=0.8),  # loud personas, since the model is small
    shape=ShapeConfig(d_model=32, n_layers=2, n_heads=2),
    base=OptimiserConfig(n_steps=200, batch_tokens=1000),
    tune=OptimiserConfig(lr=1e-3, n_steps=16, batch_tokens=1000, decay=1.0),
    text=TextConfig(pretraining=(200, 50, 50), chat=(60, 20, 20)),
    hook="blocks.0.hook_resid_post",
    arms=("assistant", "continued_a", "continued_b"),
    n_conversations=4,
    reach=6,
)


@pytest.fixture(scope="session")
def tiny_trace(tmp_path_factory) -> Path:
    """A folder like runs/demo, grown, fitted, continued and traced by the doors: half a minute."""
    from scripts import (
        _continuing,
        _fitting,
        continue_dictionary,
        fit_dictionary,
        grow_organism,
        trace_personas,
    )
    from scripts._cast import continued_models, read_organism
    from scripts._recipe import SaeChanges, TrainChanges

    shared = tmp_path_factory.getbasetemp()  # by all workers, the first of which does the work
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    home = shared / "tiny" / "demo"
    organism, dictionary, continued = (home / n for n in ("organism", "dictionary", "continued"))
    text, base = (organism / "text",), str(organism / "models" / "base")
    with FileLock(shared / "tiny.lock"):
        grow_organism.main(grow_organism.Config(organism, TINY_ORGANISM))
        shape = SaeChanges(d_sae=96, sparsity=BatchTopKConfig(k=6), prefixes=())
        train = TrainChanges(n_tokens=60_000, batch_tokens=512, lr=3e-3)
        fit_dictionary.main(
            _fitting.Config(base, text, TINY_ORGANISM.hook, dictionary, sae=shape, train=train)
        )
        models = continued_models(read_organism(organism), organism)
        more = TrainChanges(n_tokens=10_000)
        continue_dictionary.main(
            _continuing.Config(
                dictionary, models, text, continued, n_added=8, base=base, train=more
            )
        )
        trace_personas.main(trace_personas.Config(dictionary, continued, home / "trace", organism))
    return home
