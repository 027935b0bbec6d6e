"""Images: where reals come from, how they are stored, and how they become tensors."""
