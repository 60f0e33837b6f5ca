"""Crosscoders of science-of-finetuning: model by model, f itself, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sae
from sae.dictionary import Crosscoder
from sae.errors import ConfigError, InputError
from sae.formats import Given, recognise
from sae.formats.crosscoder_learning import code_norms, find
from sae.formats.subject import require_one_model

GOLDEN = Path(__file__).parent / "golden" / "crosscoder_learning"
EACH = pytest.mark.parametrize("name", sorted(each.name for each in GOLDEN.iterdir()))


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "shared_batchtopk", tmp_path / "crosscoder")


def refusal(path, given=None):
    with pytest.raises(InputError) as caught:
        sae.read(path, given)
    return str(caught.value)


def rewritten(folder, **changes):
    """The folder with tensors changed; None takes one out."""
    file = folder / "model.safetensors"
    tensors = load_file(file) | changes
    save_file({key: each for key, each in tensors.items() if each is not None}, file)
    return folder


def configured(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@EACH
def test_every_model_is_reconstructed_and_f_comes_back(name):
    crosscoder = Crosscoder(sae.read(GOLDEN / name)[0])
    recorded = load_file(GOLDEN / name / "recorded.safetensors")
    x, x_hat = (recorded[each].unflatten(1, (2, 7)) for each in ("x", "x_hat"))
    with torch.no_grad():
        z = crosscoder.encode(x)
        found = crosscoder.decode(z)
    for model in range(2):
        torch.testing.assert_close(found[:, model], x_hat[:, model], atol=1e-4, rtol=1e-5)
    f = z / code_norms(GOLDEN / name)
    torch.testing.assert_close(f.float(), recorded["f"], atol=1e-5, rtol=1e-5)


@EACH
def test_rows_are_compared_where_the_library_compares_them(name):
    crosscoder = Crosscoder(sae.read(GOLDEN / name)[0])
    file = recognise(GOLDEN / name)[1]
    held = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    held = {key.removeprefix("_orig_mod."): each for key, each in held.items()}
    norms = held["decoder.weight"].norm(dim=-1)
    torch.testing.assert_close(crosscoder.relative_norms, norms / norms.sum(0))
    torch.testing.assert_close(crosscoder.decoder_norms.sum(0), torch.ones(19))
    is_on = not held["activation_mean"].isnan().any()
    scale = held["activation_global_scale"] if is_on else torch.ones(2)
    torch.testing.assert_close(crosscoder.sae.scale.view(2, 7)[:, 0], scale)
    directions = held["decoder.weight"] / code_norms(file)[:, None] / scale[:, None, None]
    torch.testing.assert_close(crosscoder.directions, directions.float(), atol=1e-6, rtol=1e-5)


@EACH
def test_it_says_that_it_is_of_several_models(name):
    _, meta = sae.read(GOLDEN / name)
    assert (meta["of"]["kind"], len(meta["of"]["models"])) == ("crosscoder", 2)
    assert (meta["model"], meta["hook"]) == (None, "blocks.1.hook_resid_post")
    assert meta["source"]["subtract_b_dec"] is False
    with pytest.raises(ConfigError, match="a crosscoder of an unnamed model and an unnamed model"):
        require_one_model(meta, "to trace it")


@pytest.mark.parametrize("form", ["saelens", "dictionary_learning", "sparsify"])
def test_a_format_of_one_model_does_not_take_it(form, tmp_path):
    dictionary, meta = sae.read(GOLDEN / "shared_relu")
    with pytest.raises(ConfigError, match="a format for dictionaries of one model"):
        sae.write(tmp_path / "out", dictionary, meta, form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "name"), [(2, "SAE"), (3, "MIXED"), (4, "NONE"), (5, "DECOUPLED"), (9, "9")]
)
def test_other_normalisations_of_the_code(folder, number, name):
    changed = rewritten(folder, code_normalization_id=torch.tensor(number))
    assert f"code_normalization {name}" in refusal(changed)


def test_a_code_normalisation_that_only_a_config_says(folder):
    rewritten(folder, code_normalization_id=None)
    assert sae.read(folder)[0].config.sparsity.k == 4
    assert "code_normalization MIXED" in refusal(configured(folder, code_normalization="mixed"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_layers": [1, 0]}, "encoder_layers=[1, 0]"),
        ({"num_decoder_layers": 3}, "num_decoder_layers=3"),
        ({"keep_relative_variance": False}, "keep_relative_variance=False"),
        ({"latent_processor": "scaler"}, "latent_processor='scaler'"),
        ({"dict_class": "BatchTopKSAE"}, "class 'BatchTopKSAE'"),
        ({"dict_class": "CrossCoder"}, "which no relu dictionary has"),
        ({"num_layers": 3}, "where its config says 3"),
        ({"dict_size": 2.5}, "where a whole number is wanted"),
    ],
)
def test_configs_that_cannot_be_read(folder, changes, message):
    assert message in refusal(configured(folder, **changes))


def test_trainers_that_are_none(folder):
    (folder / "trainer_config.json").write_text('{"trainer": []}')
    assert sae.read(folder)[1]["hook"] is None
    (folder / "trainer_config.json").write_text('{"trainer": 3}')
    assert "trainer of type int" in refusal(folder)


def test_normalisers_that_are_half_there(folder):
    half = load_file(folder / "model.safetensors")["activation_mean"]
    half[0, 0] = float("nan")
    assert "activation_mean with values" in refusal(rewritten(folder, activation_mean=half))
    rewritten(folder, activation_mean=torch.zeros(2, 7), activation_global_scale=None)
    assert "no activation_global_scale" in refusal(folder)
    rewritten(folder, activation_global_scale=torch.tensor([1.0, 0.0]))
    assert "give scales above 0" in refusal(folder)


def test_shapes_that_do_not_fit(folder):
    assert "[2, 7, 19] is wanted" in refusal(
        rewritten(folder, **{"encoder.weight": torch.zeros(7, 2, 19)})
    )
    one = {"decoder.weight": torch.zeros(1, 19, 7)}
    assert "two models or more" in refusal(rewritten(folder, **one))


def test_a_threshold_that_was_never_set_is_asked_for(folder):
    rewritten(folder, threshold=torch.tensor(-1.0), k=None)
    assert "no k in it" in refusal(folder)
    assert "no threshold in it" in refusal(folder, Given(k=4))
    assert sae.read(folder, Given(k=4, threshold=1.5))[0].sparsity.threshold == 1.5


def test_a_latent_that_writes_nothing_never_fires(folder):
    decoder = load_file(folder / "model.safetensors")["decoder.weight"]
    decoder[:, 3] = 0
    dictionary, _ = sae.read(rewritten(folder, **{"decoder.weight": decoder}))
    x = load_file(folder / "recorded.safetensors")["x"]
    assert not dictionary.encode(x)[:, 3].any()


def test_a_language_model_is_no_crosscoder(tmp_path):
    (tmp_path / "config.json").write_text('{"num_layers": 2, "vocab_size": 3}')
    save_file({"wte": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert find(tmp_path) is None
    assert "a folder holding config.json, model.safetensors" in refusal(tmp_path)
    with pytest.raises(InputError, match="no crosscoder of this format"):
        code_norms(tmp_path)
