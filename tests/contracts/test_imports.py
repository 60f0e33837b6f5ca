"""Importing is free of effects: nothing printed, written, configured, or loaded too early."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sae", "training", "analysis", "scripts")
UNWANTED = ("wandb", "transformer_lens", "matplotlib.pyplot", "IPython", "beartype")
PROBE = (
    f"PACKAGES = {PACKAGES!r}"
    + """
import importlib, json, logging, pathlib, signal, sys
import torch, transformers  # their own effects are not ours

def state():
    loggers = logging.Logger.manager.loggerDict
    own = {name: vars(loggers[name]) for name in loggers if name.partition(".")[0] in PACKAGES}
    return {
        "root logger": [logging.getLogger().level, len(logging.getLogger().handlers)],
        "own loggers": [n for n in own if own[n].get("level") or own[n].get("handlers")],
        "threads": torch.get_num_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random state": torch.get_rng_state().tolist(),
        "signal handlers": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
    }

out, *modules = sys.argv[1:]
before = state()
for name in modules:
    importlib.import_module(name)
after = state()
changed = [key for key in before if before[key] != after[key]]
pathlib.Path(out).write_text(json.dumps([changed, sorted(sys.modules)]))
"""
)


def modules_of(package: str) -> list[str]:
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@pytest.fixture(scope="module", params=PACKAGES)
def imported(request, tmp_path_factory):
    """What importing every module of a package did: output, new files, effects, modules."""
    folder = tmp_path_factory.mktemp("import")
    home, out = folder / "home", folder / "out.json"
    home.mkdir()
    places = {"HOME": home, "PYTHONPATH": ROOT, "XDG_CACHE_HOME": home / "cache"}
    places["MPLCONFIGDIR"] = folder / "matplotlib"  # its list of fonts is its own
    clean = {key: each for key, each in os.environ.items() if not key.startswith(("HF_", "WANDB"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, str(out), *modules_of(request.param)],
        cwd=home,
        env={**clean, **{key: str(value) for key, value in places.items()}},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    changed, loaded = json.loads(out.read_text())
    written = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return {
        "printed": done.stdout + done.stderr,
        "written": written,
        "changed": changed,
        "loaded": loaded,
    }


@pytest.mark.parametrize("effect", ["printed", "written", "changed"])
def test_importing_leaves_the_world_as_it_was(imported, effect):
    assert not imported[effect]


def test_importing_loads_nothing_that_can_wait(imported):
    assert [name for name in UNWANTED if name in imported["loaded"]] == []
