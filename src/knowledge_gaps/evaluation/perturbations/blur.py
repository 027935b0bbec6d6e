"""A slight Gaussian blur."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from knowledge_gaps.data.store import Images


def blur(images: Images, start: int, sigma_px: float) -> Images:
    """Blur images, uint8 [N, C, H, W], by a Gaussian of this standard deviation.

    The kernel ends at four standard deviations; images are reflected at their edges.
    """
    sigmas_px = (0, 0, sigma_px, sigma_px)  # neither across images nor across channels
    blurred = gaussian_filter(images.astype(np.float32), sigmas_px, mode="reflect", truncate=4)
    rounded: Images = np.rint(blurred).astype(np.uint8)  # a mean of levels lies between them
    return rounded


PERTURBATIONS = {f"blur_{sigma_px}": partial(blur, sigma_px=sigma_px) for sigma_px in (0.4, 0.8)}
