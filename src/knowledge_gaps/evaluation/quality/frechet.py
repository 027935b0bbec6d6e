"""How far the distribution of generated images is from that of reals: the Frechet distance.

It is torch-fidelity's, computed on features that were extracted before, and is called FID only
where `knowledge_gaps.statistics.measures` says so. KID is beside it, in `kid`.
"""

from __future__ import annotations

from knowledge_gaps.evaluation.quality.features import FeatureSet, require_images

MIN_IMAGES = 2  # for a covariance


def compute_frechet(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017).

    Raises:
        UserError: when a set has fewer than 2 images.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    require_images(generated, real, MIN_IMAGES, "the Frechet distance")
    metric = fid_statistics_to_metric(generated.fid_statistics, real.fid_statistics, verbose=False)
    return float(metric[KEY_METRIC_FID])
