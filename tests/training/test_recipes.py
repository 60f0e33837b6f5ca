import pytest
import torch

from sae.dictionary import BatchTopKConfig, Sae
from sae.errors import ConfigError, InputError, NumericalError
from training.config import TrainConfig
from training.continuation import continued
from training.loop import fit
from training.optim import adam, step_, width_lr
from training.recipes import RECIPES, cache, default, organism, recipe, stories260k


@pytest.mark.parametrize(
    ("name", "d_in"), [("organism", 128), ("stories260k", 64), ("default", 32)]
)
def test_every_recipe_makes_a_dictionary_and_carries_its_seed(name, d_in):
    shape, run = recipe(name, d_in, seed=7)
    assert Sae(shape).config.d_in == d_in
    assert run.seed == 7
    assert isinstance(shape.sparsity, BatchTopKConfig)
    assert run.dead_after_tokens < run.n_tokens


def test_the_named_ones_are_all_there():
    assert set(RECIPES) == {"organism", "stories260k", "cache", "default"}
    assert recipe("organism", 128) == organism()
    assert recipe("stories260k", 64) == stories260k()
    assert recipe("cache", 128) == cache(128)
    assert recipe("default", 512) == default(512)


def test_the_default_nests_three_dictionaries_sixteen_wide():
    shape, _ = default(64)
    assert (*shape.prefixes, shape.d_sae) == (64, 256, 1024)


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="recipe 'organsim'.*did you mean 'organism'"):
        recipe("organsim", 128)
    with pytest.raises(ConfigError, match="choose from"):
        recipe("xyz", 128)


def test_a_recipe_for_another_width_is_refused():
    with pytest.raises(ConfigError, match="width 96; found: a recipe for width 128; do: use 'def"):
        recipe("organism", 96)


def test_the_rate_follows_the_width_unless_given(make_sae):
    assert adam(make_sae(), TrainConfig(n_tokens=1)).defaults["lr"] == width_lr(48)
    assert adam(make_sae(), TrainConfig(n_tokens=1, lr=0.5)).defaults["lr"] == 0.5


def test_a_gradient_that_is_no_number_changes_nothing(make_sae):
    sae = make_sae()
    optimiser, before = adam(sae, TrainConfig(n_tokens=1)), sae.W_enc.detach().clone()
    for parameter in sae.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    with pytest.raises(NumericalError, match="a finite gradient"):
        step_(sae, optimiser, 0.1, 1.0)
    assert torch.equal(sae.W_enc, before)


def test_a_continued_dictionary_starts_as_the_finished_one(make_sae, stream, x, run_config):
    sae = make_sae()
    list(fit(sae, stream(x, 64), run_config))
    finished, other = sae.folded(), 3.0 * x + 1.0
    new = continued(finished, other, n_added=8, seed=4)
    assert new.config.d_sae == 56
    assert torch.equal(new.W_dec[:48], finished.W_dec)
    mean_square = (new.input_scale * other).square().sum(-1).mean()
    assert mean_square.item() == pytest.approx(12, rel=1e-4)
    same = continued(finished, other, n_added=0).eval()
    torch.testing.assert_close(same(other).x_hat, finished.eval()(other).x_hat)


def test_two_continuations_differ_by_their_activations_alone(make_sae, stream, x, run_config):
    sae = make_sae()
    list(fit(sae, stream(x, 64), run_config))

    def fitted(data):
        new = continued(sae.folded(), data, n_added=8, seed=4)
        *_, last = fit(new, stream(data, 64), run_config)
        return new.folded(), last

    (one, first), (two, again), (tuned, other) = fitted(x), fitted(x), fitted(x.flip(1))
    assert torch.equal(one.W_dec, two.W_dec)
    assert first.step == again.step == other.step
    assert not torch.equal(one.W_dec, tuned.W_dec)
    assert other.metrics["fvu"] < 0.6


def test_nothing_to_continue_on_is_an_input_error(make_sae, x):
    with pytest.raises(InputError, match="a sample to continue on"):
        continued(make_sae(), x[:0])
