"""text -> tokens -> activations."""
