"""How far the distribution of generated images is from that of reals: Frechet distance and KID.

Both are torch-fidelity's, computed on features that were extracted before. The Frechet distance is
called FID only where `knowledge_gaps.statistics.measures` says so.
"""

from __future__ import annotations

from typing import Any

import torch

from knowledge_gaps.evaluation.quality.features import FeatureSet, require_images

MIN_IMAGES = 2  # for a covariance (Frechet) or an unbiased estimate (KID)
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # or the size of the smaller set
KID_SEED = 2020


def compute_frechet(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017).

    Raises:
        UserError: when a set has fewer than 2 images.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    require_images(generated, real, MIN_IMAGES, "the Frechet distance")
    metric = fid_statistics_to_metric(generated.fid_statistics, real.fid_statistics, verbose=False)
    return float(metric[KEY_METRIC_FID])


def compute_kid(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return the unbiased MMD^2, cubic kernel, over random subsets (Binkowski et al. 2018).

    Returns:
        Mean and standard deviation (divided by their number) over the subsets. The subsets share
        images, so the deviation says how steady the mean is and is no standard error.

    Raises:
        UserError: when a set has fewer than 2 images.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    require_images(generated, real, MIN_IMAGES, "KID")
    options: dict[str, Any] = {
        "kid_subsets": KID_SUBSETS,
        "kid_subset_size": min(KID_SUBSET_SIZE, len(generated), len(real)),
        "rng_seed": KID_SEED,
        "verbose": False,
    }
    features = (torch.from_numpy(images.features) for images in (generated, real))
    metric = kid_features_to_metric(*features, **options)
    return float(metric[KEY_METRIC_KID_MEAN]), float(metric[KEY_METRIC_KID_STD])
