import numpy as np
import pytest
from scipy import sparse

from analysis.statistics.matrices import cofiring, cosines, fires, n_fires, shape
from sae.errors import InputError

Z = sparse.csr_array(np.array([[3.0, 0, 1], [2, 0, 0], [1, 5, 0], [0, 4, 0]]))


def test_counts_and_overlaps_by_hand():
    assert shape(Z) == (4, 3)
    assert n_fires(Z).tolist() == [3, 2, 1]
    dice = cofiring(Z, Z)
    assert np.allclose(np.diagonal(dice), 1)
    assert dice[0, 1] == pytest.approx(2 * 1 / 5)
    assert dice[0, 2] == pytest.approx(2 * 1 / 4)
    assert cofiring(Z, sparse.csr_array((4, 1))).tolist() == [[0], [0], [0]]
    with pytest.raises(InputError, match="the same tokens"):
        cofiring(Z, sparse.csr_array((3, 1)))


def test_stored_zeros_do_not_fire():
    stored = sparse.csr_array((np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 2])), (1, 2))
    assert fires(stored).toarray().tolist() == [[0, 1]]
    assert stored.nnz == 2, "the argument is left alone"
    assert n_fires(stored).tolist() == [0, 1]


def test_cosines_of_zero_rows_are_zero():
    found = cosines(np.array([[2.0, 0], [0, 0]]), np.array([[1.0, 1]]))
    assert np.allclose(found, [[np.sqrt(0.5)], [0]])
