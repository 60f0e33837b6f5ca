"""The notebooks run from the first cell to the last, and what they show is static and small."""

import os
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
EACH = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
CARD_BYTES = 60_000
NOTEBOOK_BYTES = 2_000_000


@pytest.fixture(scope="module")
def executed(tiny_trace):
    """A notebook by its path, executed on the tiny run; each only once."""
    done = {}

    def run(path):
        if path not in done:
            notebook = jupytext.read(path)
            told = {**os.environ, "FORELIMB_RUN": str(tiny_trace), "OMP_NUM_THREADS": "1"}
            client = NotebookClient(notebook, timeout=120, kernel_name="python3")
            done[path] = client.execute(cwd=str(ROOT), env=told)
        return done[path]

    return run


def shown(notebook):
    """What each cell displays, as mime type -> content."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output["data"] for output in outputs if "data" in output]


def test_there_are_notebooks():
    assert [path.stem for path in SCRIPTS] == ["inspect_a_latent"]


@EACH
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_runs_and_warns_of_nothing(path, executed):
    outputs = [output for cell in executed(path).cells for output in cell.get("outputs", ())]
    assert [each["text"] for each in outputs if each.get("name") == "stderr"] == []
    assert len(nbformat.writes(executed(path))) < NOTEBOOK_BYTES


@EACH
def test_what_it_shows_needs_neither_script_nor_network(path, executed):
    pages = [data["text/html"] for data in shown(executed(path)) if "text/html" in data]
    assert len(pages) >= 3
    for page in pages:
        assert "<script" not in page
        assert "http" not in page
        assert len(page.encode()) <= CARD_BYTES


@EACH
def test_all_of_it_can_be_read_as_text(path, executed):
    assert all(data.get("text/plain") for data in shown(executed(path)))


def test_the_card_is_there_with_its_styles(executed):
    texts = [data["text/plain"] for data in shown(executed(SCRIPTS[0])) if "text/html" in data]
    pages = [data["text/html"] for data in shown(executed(SCRIPTS[0])) if "text/html" in data]
    (number,) = [i for i, text in enumerate(texts) if text.startswith("Card(latent ")]
    assert "<style>" in pages[number]
    assert "Top snippets by the tuned model" in pages[number]


@EACH
def test_the_pair_agrees_and_holds_no_output(path):
    """After a change: `jupytext --sync notebooks/NAME.py`, then strip the outputs."""
    twin = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    cells = [cell for cell in jupytext.read(path).cells if cell.source]
    assert [(c.cell_type, c.source) for c in twin.cells] == [(c.cell_type, c.source) for c in cells]
    assert [c for c in twin.cells if c.get("outputs") or c.get("execution_count")] == []
