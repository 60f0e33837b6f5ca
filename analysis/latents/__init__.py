"""What each latent does in both models on the same tokens, and the coordinates of a change."""
