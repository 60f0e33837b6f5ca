import pytest

from sae.errors import ConfigError
from training.config import TrainConfig
from training.schedules import rate_factor


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_tokens", 0),
        ("batch_tokens", 0),
        ("dead_after_tokens", 0),
        ("warmup", 1.5),
        ("decay", -0.1),
        ("betas", (0.9, 1.0)),
        ("lr", 0.0),
        ("aux_weight", -1.0),
        ("grad_clip", 0.0),
        ("encoder_dtype", "float16"),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"asked: {field} in its range; found: {field}="):
        TrainConfig(**{"n_tokens": 10, field: value})


def test_round_trip_through_json_values():
    config = TrainConfig(n_tokens=10, betas=(0.0, 0.99), lr=1e-3)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_an_unknown_key_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match="training option 'steps'.*'n_tokens'"):
        TrainConfig.from_dict({"n_tokens": 10, "steps": 3})


def test_an_option_of_earlier_files_is_read_where_it_says_what_is_the_rule_now():
    assert TrainConfig.from_dict({"n_tokens": 10, "k_aux": None}) == TrainConfig(n_tokens=10)
    with pytest.raises(ConfigError, match="training option 'k_aux'"):
        TrainConfig.from_dict({"n_tokens": 10, "k_aux": 16})


def test_differences_hold_both_values():
    config = TrainConfig(n_tokens=10)
    assert config.differences(TrainConfig(n_tokens=10)) == {}
    assert config.differences(TrainConfig(n_tokens=11)) == {"n_tokens": (10, 11)}


def test_the_last_step_is_counted_whole():
    assert TrainConfig(n_tokens=4097, batch_tokens=4096).n_steps == 2
    assert TrainConfig(n_tokens=4096, batch_tokens=4096).n_steps == 1


def test_the_rate_rises_holds_and_falls_over_the_last_fifth():
    run = TrainConfig(n_tokens=1000, warmup=0.05, decay=0.2)
    assert rate_factor(25, run) == pytest.approx(0.5)
    assert rate_factor(50, run) == rate_factor(799, run) == 1.0
    assert rate_factor(950, run) == pytest.approx(0.25)


@pytest.mark.parametrize(("warmup", "decay"), [(0.0, 0.0), (1.0, 1.0), (0.7, 0.7)])
def test_the_rate_stays_a_share(warmup, decay):
    run = TrainConfig(n_tokens=100, warmup=warmup, decay=decay)
    assert all(0 <= rate_factor(n, run) <= 1 for n in range(120))
    assert rate_factor(100, run) == 0.0
