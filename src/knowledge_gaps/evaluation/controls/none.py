"""No change: what the other controls, and the GANs that fool classifiers, are compared with."""

from __future__ import annotations

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.controlling import Control, Given


def keep(images: Images, given: Given, distortion: int) -> Images:
    """Return images, uint8 [N, C, H, W], as they are."""
    return images


CONTROL = Control(keep)
