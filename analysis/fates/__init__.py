"""Coordinates and nulls -> one fate a latent, with error rates measured on held-back nulls."""
