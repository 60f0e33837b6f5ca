"""What is laid down is picked up: equal, aligned, and apart from the file."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sae.parcels import lay_down, pick_up


@pytest.fixture
def path(tmp_path):
    return tmp_path / "parcel"


def test_arrays_tables_and_tensors_come_back(path):
    table = pd.DataFrame({"token": ["a", None, "bc"], "pos": [1, 2, 3]})
    matrix = sparse.csr_array(np.eye(5, dtype=np.float32))
    x, t = np.arange(12.0).reshape(3, 4), torch.arange(3)
    n_bytes = lay_down({"table": table, "matrix": matrix, "x": x, "t": t, "none": None}, path)
    assert n_bytes == path.stat().st_size
    found = pick_up(path)
    pd.testing.assert_frame_equal(found["table"], table)
    assert np.array_equal(found["matrix"].toarray(), matrix.toarray())
    assert np.array_equal(found["x"], x)
    assert torch.equal(found["t"], t)
    assert found["x"].flags.aligned and found["x"].flags.writeable


def test_writing_to_one_copy_reaches_no_other(path):
    lay_down(np.zeros(1000), path)
    one, other = pick_up(path), pick_up(path)
    one += 1
    assert not other.any()
    assert not pick_up(path).any()


def test_what_was_picked_up_outlives_its_file(path):
    lay_down([np.arange(5), np.empty(0)], path)
    found, nothing = pick_up(path)
    path.unlink()
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert len(nothing) == 0
