"""Which latents carry a persona, the span they make up, and others to stand beside them."""
