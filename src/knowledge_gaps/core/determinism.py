"""What makes a process deterministic; unlike the rest of the machine, it decides results' bits."""

from __future__ import annotations

import os


def configure_process() -> None:
    """Make this process deterministic, with one thread; before its first tensor operation."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(1)
    # use_deterministic_algorithms says the same, and says it to the compiler as well, which it
    # imports for that: a second a process, and nothing that must be deterministic is compiled
    torch.set_deterministic_debug_mode("error")
    # nothing here reads memory that was not written; filling it takes 3 to 6 % of a step
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (untyped)
    torch.set_flush_denormal(True)  # Adam's moments of a collapsed GAN would crawl otherwise
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 is meant where a recipe asks for it
