"""What must be true of every dictionary format, this project's own among them."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch

import sae
from sae.dictionary import CrosscoderConfig, Sae, SaeConfig, initialise_
from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    TopKConfig,
)
from sae.errors import ConfigError, NumericalError
from sae.formats import FORMATS, Given, recognise

ROOT = Path(__file__).parents[2]
EACH = pytest.mark.parametrize("form", list(FORMATS))
WRITTEN = [name for name, each in FORMATS.items() if each.write is not None]
KINDS = (
    ReluConfig(l1=0.1),
    TopKConfig(k=3),
    BatchTopKConfig(k=3),
    JumpReluConfig(),
    JumpReluTanhConfig(tanh=1.0),
    JumpReluL0Config(l0=3.0),
    GatedConfig(l1=0.1),
)
LACKING = {"sparsify": tuple({each.kind for each in KINDS} - {"topk"})}
X = 3 * torch.randn(32, 7, generator=torch.Generator().manual_seed(0)) + 1


def fitted(sparsity, is_unit=True):
    """A dictionary with an input scale, biases and thresholds that matter."""
    dictionary = Sae(SaeConfig(7, 19, sparsity))
    initialise_(dictionary, X, seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        dictionary.encode(X)
        dictionary.b_enc += 0.3 * torch.randn(19, generator=draw)
        dictionary.W_enc += 0.3 * torch.randn(7, 19, generator=draw)
        for each in (*dictionary.sparsity.parameters(), *dictionary.sparsity.buffers()):
            if each.shape == (19,):
                each += 0.3 * torch.rand(19, generator=draw)
        if not is_unit:
            dictionary.W_dec *= 0.5 + torch.rand(19, 1, generator=draw)
    assert dictionary.input_scale != 1
    return dictionary.eval()


@EACH
def test_a_format_says_what_it_may_ask_for(form):
    assert set(FORMATS[form].asks) <= {each.name for each in fields(Given)}
    assert FORMATS[form].name == form


@EACH
def test_nothing_and_strangers_files_are_not_taken_for_it(form, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    assert FORMATS[form].find(tmp_path) is None
    assert FORMATS[form].find(tmp_path / "nowhere") is None


@pytest.mark.parametrize("is_unit", [True, False])
@pytest.mark.parametrize("sparsity", KINDS, ids=lambda each: each.kind)
@pytest.mark.parametrize("form", WRITTEN)
class TestEveryFormatThatIsWritten:
    def test_it_reads_back_equal_in_activation_units(self, form, sparsity, is_unit, tmp_path):
        dictionary = fitted(sparsity, is_unit)
        meta = {"hook": "blocks.2.hook_resid_post", "model": "tiny", "note": "größer"}
        out = tmp_path / "layers.2"
        if sparsity.kind in LACKING.get(form, ()):
            with pytest.raises(ConfigError, match="a kind it lacks"):
                sae.write(out, dictionary, meta, form)
            assert not out.exists()
            return
        file = sae.write(out, dictionary, meta, form)
        assert recognise(out) == (FORMATS[form], file)
        twin, told = sae.read(file)
        wanted = dictionary.folded()
        torch.testing.assert_close(twin(X).z, wanted(X).z, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(twin(X).x_hat, wanted(X).x_hat, atol=1e-5, rtol=1e-5)
        assert not twin.training
        assert told["hook"] == meta["hook"]
        assert [each.name for each in tmp_path.iterdir()] == ["layers.2"]

    def test_it_writes_whole_numbers_or_nothing(self, form, sparsity, is_unit, tmp_path):
        broken = fitted(sparsity, is_unit)
        with torch.no_grad():
            broken.b_dec[0] = float("nan")
        with pytest.raises((NumericalError, ConfigError)):
            sae.write(tmp_path / "out", broken, {}, form)
        with pytest.raises(ConfigError):
            sae.write(tmp_path / "out", fitted(sparsity), {"model": object()}, form)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", WRITTEN)
def test_several_models_are_kept_apart_or_refused(form, tmp_path):
    x = torch.cat([X, 4 * X.flip(1)], dim=1)
    dictionary = Sae(SaeConfig(14, 19, TopKConfig(k=3), crosscoder=CrosscoderConfig(2)))
    initialise_(dictionary, x, seed=0)
    assert dictionary.layout.balance[1] < 1
    if form != "forelimb":
        with pytest.raises(ConfigError, match="a format for dictionaries of one model"):
            sae.write(tmp_path / "layers.2", dictionary, {}, form)
        assert not list(tmp_path.iterdir())
        return
    sae.write(tmp_path / "layers.2", dictionary, {}, form)
    twin, _ = sae.read(tmp_path / "layers.2")
    torch.testing.assert_close(twin(x).x_hat, dictionary(x).x_hat, atol=1e-4, rtol=1e-5)


def test_a_format_that_is_only_read_is_not_written(tmp_path):
    for form in (set(FORMATS) - set(WRITTEN)) | {"pickle"}:
        with pytest.raises(ConfigError, match="no format to write"):
            sae.write(tmp_path / "out", fitted(TopKConfig(k=2)), {}, form)


def test_a_threshold_that_was_never_set_is_not_written(tmp_path):
    fresh = Sae(SaeConfig(7, 19, BatchTopKConfig(k=3)))
    for form in set(WRITTEN) - {"forelimb", "sparsify"}:
        with pytest.raises(ConfigError, match="no training batch has set"):
            sae.write(tmp_path / "out", fresh, {}, form)


def test_every_module_of_formats_that_reads_is_registered():
    modules = {
        each.stem
        for each in (ROOT / "sae" / "formats").glob("*.py")
        if "\ndef find(" in each.read_text(encoding="utf-8")
    }
    assert modules == set(FORMATS) - {"forelimb"}
