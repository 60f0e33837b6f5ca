"""Numbers from resampled documents and from sparse matrices: what the other rooms count with."""
