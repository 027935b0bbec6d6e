"""No change: what the other perturbations are compared with."""

from __future__ import annotations

from knowledge_gaps.data.store import Images


def keep(images: Images, start: int) -> Images:
    """Return images, uint8 [N, C, H, W], as they are."""
    return images


PERTURBATIONS = {"none": keep}
