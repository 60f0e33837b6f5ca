import numpy as np
from scipy import sparse

from analysis.study.trace_folder import _on_every_row


def test_rows_that_do_not_count_stay_empty_and_move_no_other():
    """Three counted rows among six; the second of them is silent."""
    z = sparse.csr_array(np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]))
    counted = np.array([False, True, True, False, False, True])
    found = _on_every_row(z, counted).toarray()
    assert found.tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [2, 3]]
