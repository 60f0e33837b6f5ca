"""What is wrong with a stranger's file is one line, no code of it runs, and nothing is written."""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import sae
from sae.errors import ConfigError, InputError
from sae.formats import Given, recognise

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "saelens": GOLDEN / "saelens" / "jumprelu",
    "saelens_checkpoint": GOLDEN / "saelens" / "matryoshka_checkpoint",
    "dictionary_learning": GOLDEN / "dictionary_learning" / "MatryoshkaBatchTopKSAE",
    "sparsify": GOLDEN / "sparsify" / "given_width" / "layers.1",
    "gemma_scope": next((GOLDEN / "gemma_scope").rglob("params.npz")).parent,
    "gemma_scope_2": GOLDEN / "gemma_scope" / "layer_1_width_16k_l0_small",
    "llama_scope": GOLDEN / "llama_scope" / "L1R-3x",
    "llama_scope_later": GOLDEN / "llama_scope" / "L1R-later",
    "crosscoder": GOLDEN / "crosscoder_learning" / "shared_batchtopk",
    "crosscoder_of_a_run": GOLDEN / "crosscoder_learning" / "run_relu",
}
EACH = pytest.mark.parametrize("case", list(CASES))
FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def folder(case, tmp_path):
    copied = shutil.copytree(CASES[case], tmp_path / "dictionary")
    (copied / "recorded.safetensors").unlink()
    return copied


def refusal(path, given=None, error=InputError):
    with pytest.raises(error) as caught:
        sae.read(path, given)
    message = str(caught.value)
    assert message.startswith("asked: ")
    assert "\n" not in message
    assert len(message) < 1200
    return message


def weights_of(folder):
    return recognise(folder)[1]


def tensors_of(file):
    if file.suffix == ".pt":
        return torch.load(file, weights_only=True)
    if file.suffix == ".npz":
        return {name: torch.from_numpy(each) for name, each in np.load(file).items()}
    return load_file(file)


def rewritten(folder, change):
    """The folder, its tensors changed as their library would have written them."""
    file = weights_of(folder)
    tensors = dict(tensors_of(file))
    change(tensors)
    if file.suffix == ".pt":
        torch.save(tensors, file)
    elif file.suffix == ".npz":
        np.savez(file, **{name: each.numpy() for name, each in tensors.items()})
    else:
        save_file(tensors, file)
    return folder


def decoder_in(tensors):
    known = ("W_dec", "w_dec", "decoder.weight")
    return next(name for name in tensors if name.removeprefix("_orig_mod.") in known)


@EACH
def test_a_missing_tensor(folder):
    def change(tensors):
        del tensors[decoder_in(tensors)]

    assert "no W_dec" in refusal(rewritten(folder, change))


@EACH
def test_a_wrong_width(folder):
    def change(tensors):
        name = decoder_in(tensors)
        tensors[name] = tensors[name][:, :-1].contiguous()

    message = refusal(rewritten(folder, change))
    assert "wanted" in message or "says" in message


@EACH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, value):
    def change(tensors):
        tensors[decoder_in(tensors)][0, 0] = value

    assert "W_dec with values that are not finite" in refusal(rewritten(folder, change))


@EACH
def test_a_tensor_too_many(folder):
    def change(tensors):
        tensors["W_skip"] = torch.zeros(2)

    assert "W_skip" in refusal(rewritten(folder, change))


@EACH
def test_whole_numbers_for_weights(folder):
    def change(tensors):
        name = decoder_in(tensors)
        tensors[name] = tensors[name].to(torch.int32)

    assert "W_dec of type torch.int32" in refusal(rewritten(folder, change))


@EACH
def test_a_weights_file_that_is_a_folder_or_empty(folder):
    file = weights_of(folder)
    file.write_bytes(b"")
    refusal(folder)
    file.unlink()
    refusal(folder)
    file.mkdir()
    refusal(folder)


class Trap:
    """Would write a file where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@EACH
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickled_code_never_runs(folder, protocol, tmp_path):
    mark = tmp_path / "ran"
    weights_of(folder).write_bytes(pickle.dumps({"W_dec": Trap(mark)}, protocol=protocol))
    refusal(folder)
    assert not mark.exists()


@EACH
def test_pickled_code_in_an_archive_never_runs(folder, tmp_path):
    mark, file = tmp_path / "ran", weights_of(folder)
    torch.save({"W_dec": Trap(mark), "b_dec": torch.zeros(7)}, file)
    refusal(folder)
    array = np.empty(1, dtype=object)
    array[0] = Trap(mark)
    with file.open("wb") as stream:
        np.savez(stream, W_dec=array)
    refusal(folder)
    assert not mark.exists()


@FUZZ
@EACH
@given(data=st.data())
def test_any_truncation_is_noticed(folder, data):
    names = [weights_of(folder), *folder.glob("*.json")]
    file = data.draw(st.sampled_from(names))
    whole = file.read_bytes()
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        refusal(folder)
    finally:
        file.write_bytes(whole)


@FUZZ
@EACH
@given(data=st.data())
def test_flipped_bytes_are_refused_or_leave_finite_weights(folder, data):
    names = [weights_of(folder), *folder.rglob("*.json")]
    file = data.draw(st.sampled_from(names))
    whole = bytearray(file.read_bytes())
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(changed)
    try:
        twin, meta = sae.read(folder)
    except (InputError, ConfigError) as error:
        assert "\n" not in str(error)
    else:
        assert all(each.isfinite().all() for each in twin.state_dict().values())
        json.dumps(meta)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("case", ["dictionary_learning", "gemma_scope"])
def test_an_archives_checksums_are_held_against_it(folder):
    file = weights_of(folder)
    whole = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda each: each.file_size)
    whole[entry.header_offset + len(entry.filename) + 200] ^= 1
    file.write_bytes(whole)
    assert "archive" in refusal(folder)


@pytest.mark.parametrize("case", ["dictionary_learning"])
def test_much_made_of_little(folder):
    file = weights_of(folder)
    torch.save({"W_enc": torch.zeros(1).expand(10**6, 10**6), "bias": torch.zeros(1)}, file)
    assert "larger than its file" in refusal(folder)
    torch.save([torch.zeros(1)], file)
    assert "a list, where a state dict is wanted" in refusal(folder)
    torch.save({"W_enc": "text"}, file)
    assert "where a tensor is wanted" in refusal(folder)
    torch.save({3: torch.zeros(1)}, file)
    assert "name of a tensor" in refusal(folder)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    assert "compressed" in refusal(folder)


@pytest.mark.parametrize("case", ["gemma_scope"])
def test_arrays_that_are_not_what_they_say(folder):
    file = weights_of(folder)

    def archived(content, **options):
        with zipfile.ZipFile(file, "w", **options) as archive:
            archive.writestr("W_dec.npy", content)

    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 3), np.float32))
    archived(stream.getvalue().replace(b"(2, 3)", b"(9, 9)"))
    assert "of shape [9, 9] in 24 bytes" in refusal(folder)
    archived(stream.getvalue().replace(b"<f4", b"|O8"))
    assert "where numbers are wanted" in refusal(folder)
    archived(b"\0" * 10**7, compression=zipfile.ZIP_DEFLATED)
    assert "unpack to 10000000" in refusal(folder)


@EACH
@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 10**5, "\udcff"])
def test_a_config_that_is_none(folder, case, text):
    configs = [each for each in folder.glob("*.json") if each.name != "activation_scaler.json"]
    if not configs:
        pytest.skip("this format has no config")
    for config in configs:
        config.write_text(text, errors="surrogateescape")
    assert refusal(folder)


@pytest.mark.parametrize(
    "case",
    ["saelens", "sparsify", "dictionary_learning", "llama_scope", "crosscoder_of_a_run"],
)
def test_a_config_of_another_width(folder):
    (config,) = folder.glob("*.json")
    raw = json.loads(config.read_text())
    where = raw.get("trainer", raw)
    names = ("d_in", "activation_dim", "d_model")
    where[next(name for name in names if name in where)] = 10**12
    config.write_text(json.dumps(raw))
    assert "where its config says 1000000000000" in refusal(folder)


def configured(folder, name="cfg.json", **changes):
    path = folder / name
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: each for key, each in raw.items() if each is not None}))
    return folder


@pytest.mark.parametrize("case", ["saelens"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize_activations": "layer_norm"}, "no linear map"),
        ({"normalize_activations": "constant_norm_rescale"}, "no linear map"),
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        ({"architecture": None}, "no architecture"),
        ({"architecture": "standard"}, "threshold, which no relu dictionary has"),
        ({"architecture": "gated"}, "no b_gate"),
        ({"apply_b_dec_to_input": None}, "no subtract_b_dec in it"),
        ({"apply_b_dec_to_input": 1}, "where true or false is wanted"),
        ({"normalize_activations": "expected_average_only_in"}, "no input_scale in it"),
        ({"normalize_activations": "covariance_whitening"}, "activation_whitening.safetensors"),
        ({"metadata": []}, "no subtract_b_dec"),
        ({"metadata": 3}, "metadata of type int"),
    ],
)
def test_saelens_configs_that_cannot_be_read(folder, changes, message):
    if changes.get("metadata") == []:
        changes = {**changes, "apply_b_dec_to_input": None, "sae_lens_version": "6.1.0"}
    assert message in refusal(configured(folder, **changes))


@pytest.mark.parametrize("case", ["sparsify"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transcode": True}, "transcode=True"),
        ({"skip_connection": True}, "skip_connection=True"),
        ({"signed": True}, "signed=True"),
        ({"activation": "groupmax"}, "activation 'groupmax'"),
        ({"k": None}, "no k in it"),
        ({"k": 20}, "k=20"),
        ({"k": "4"}, "k='4', where a number is wanted"),
        ({"k": 2.5}, "where a whole number is wanted"),
    ],
)
def test_sparsify_configs_that_cannot_be_read(folder, changes, message):
    assert message in refusal(configured(folder, **changes))


@pytest.mark.parametrize("case", ["gemma_scope"])
@pytest.mark.parametrize("place", ["google--gemma-scope-2b-pt-transcoders", "clt", "crosscoder"])
def test_gemma_scope_folders_that_map_activations(folder, tmp_path, place):
    (tmp_path / place).mkdir()
    assert "a map between activations" in refusal(folder.rename(tmp_path / place / "layer_1"))


@pytest.mark.parametrize("case", ["gemma_scope_2"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hf_hook_point_out": "model.layers.1.mlp.output"}, "a map between activations"),
        ({"affine_connection": True}, "a map between activations"),
        ({"architecture": "topk"}, "architecture 'topk'"),
    ],
)
def test_gemma_scope_configs_that_cannot_be_read(folder, changes, message):
    assert message in refusal(configured(folder, "config.json", **changes))


@pytest.mark.parametrize("case", ["llama_scope"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hook_point_out": "blocks.1.hook_mlp_out"}, "a map between activations"),
        ({"act_fn": "topk"}, "act_fn='topk'"),
        ({"norm_activation": "token-wise"}, "no linear map"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "norms above 0"),
        ({"dataset_average_activation_norm": None}, "no input_scale in it"),
        ({"jump_relu_threshold": None}, "no threshold in it"),
    ],
)
def test_llama_scope_configs_that_cannot_be_read(folder, changes, message):
    assert message in refusal(configured(folder, "hyperparams.json", **changes))


@pytest.mark.parametrize("case", ["dictionary_learning"])
def test_dictionary_learning_files_that_leave_something_open(folder):
    (folder / "config.json").unlink()
    assert sae.read(folder)[0].config.prefixes == (5, 12)

    def unset(tensors):
        tensors["threshold"].fill_(-1.0)

    rewritten(folder, unset)
    assert "no threshold in it" in refusal(folder)
    assert sae.read(folder, Given(threshold=1.5))[0].sparsity.threshold == 1.5
    assert "a threshold of -2" in refusal(folder, Given(threshold=-2.0))
    (folder / "config.json").write_text('{"trainer": {"dict_class": "CrossCoder"}}')
    assert "class 'CrossCoder'" in refusal(folder)
    (folder / "config.json").write_text('{"trainer": []}')
    assert "trainer of type list" in refusal(folder)


@pytest.mark.parametrize("case", ["sparsify"])
def test_what_the_file_says_is_not_given_again(folder):
    assert sae.read(folder, Given(k=4))[0].config.sparsity.k == 4
    assert "leave out k" in refusal(folder, Given(k=5), ConfigError)
    assert "which says so itself" in refusal(folder, Given(input_scale=2.0), ConfigError)
    meta = sae.read(folder, Given(hook="blocks.3.hook_resid_post", model="mine"))[1]
    assert (meta["hook"], meta["model"]) == ("blocks.3.hook_resid_post", "mine")


@pytest.mark.parametrize("case", ["sparsify"])
def test_a_folder_of_two_formats(folder, tmp_path):
    shutil.copy(CASES["saelens"] / "sae_weights.safetensors", folder)
    assert "several formats: sae.safetensors and sae_weights.safetensors" in refusal(folder)
    assert sae.read(folder / "sae.safetensors")[1]["source"]["format"] == "sparsify"
