"""activations -> latents."""
