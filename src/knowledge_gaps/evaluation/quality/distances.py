"""How far generated images are from reals as distributions of features: Frechet distance and KID.

The Frechet distance is torch-fidelity's; it is called FID where the extractor says so. KID's
subsets, kernel and estimate are torch-fidelity's too, but its subsets share images, and it computes
the kernel of the same two images anew for each of them. Here every pair is computed once, in
blocks. Where there are more pairs of images than the subsets have together, torch-fidelity's own
function is faster and is called.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from knowledge_gaps.evaluation.quality.features import FeatureSet

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # or the size of the smaller set
KID_SEED = 2020

_ROWS = 500  # of the matrix of kernels at a time: 24 MB with its copies for 4,000 images


def compute_frechet(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    metric = fid_statistics_to_metric(generated.statistics, real.statistics, verbose=False)
    return float(metric[KEY_METRIC_FID])


def compute_kid(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return the unbiased MMD^2, cubic kernel, over random subsets (Binkowski et al. 2018).

    Returns:
        Mean and standard deviation (divided by their number) over the subsets. The subsets share
        images, so the deviation says how steady the mean is and is no standard error.
    """
    size = min(KID_SUBSET_SIZE, len(generated), len(real))
    if max(len(generated), len(real)) ** 2 > KID_SUBSETS * size**2:
        return _call_library(generated, real, size)
    members, members_real = _draw_subsets(len(generated), len(real), size)
    within = _sum_within(generated, members) + _sum_within_reals(real, len(generated), size)
    across = _sum_pairs(generated, real, members, members_real)
    estimates = within / (size * (size - 1)) - 2 * across / size**2  # eq. 4
    return float(estimates.mean()), float(estimates.std(correction=0))


def _call_library(generated: FeatureSet, real: FeatureSet, size: int) -> tuple[float, float]:
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    metric = kid_features_to_metric(
        torch.from_numpy(generated.features),
        torch.from_numpy(real.features),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=size,
        rng_seed=KID_SEED,
        verbose=False,
    )
    return float(metric[KEY_METRIC_KID_MEAN]), float(metric[KEY_METRIC_KID_STD])


def _draw_subsets(num_images: int, num_reals: int, size: int) -> tuple[Tensor, Tensor]:
    """Draw who is in which subset, as torch-fidelity does: float32 [N, S] and [M, S] of 0 and 1."""
    rng = np.random.RandomState(KID_SEED)
    members, members_real = (torch.zeros(KID_SUBSETS, count) for count in (num_images, num_reals))
    for subset in range(KID_SUBSETS):
        members[subset, rng.choice(num_images, size, replace=False)] = 1
        members_real[subset, rng.choice(num_reals, size, replace=False)] = 1
    return members.T.contiguous(), members_real.T.contiguous()


@lru_cache(maxsize=1)
def _sum_within_reals(real: FeatureSet, num_images: int, size: int) -> Tensor:
    """Sum as `_sum_within`, once for all sets of a study, which have the same reals and size.

    The subsets of the reals are drawn between those of the images, whose number they depend on.
    """
    return _sum_within(real, _draw_subsets(num_images, len(real), size)[1])


def _sum_within(images: FeatureSet, members: Tensor) -> Tensor:
    """Sum the kernel over all pairs of different images within each subset: float64 [S]."""
    features = torch.from_numpy(images.features)
    of_itself = _shape_kernel(features.square().sum(dim=1), features.shape[1])
    return _sum_pairs(images, images, members, members) - of_itself.double() @ members.double()


def _sum_pairs(
    left: FeatureSet, right: FeatureSet, members_left: Tensor, members_right: Tensor
) -> Tensor:
    """Sum the kernel over all pairs of a left and a right image of each subset: float64 [S]."""
    features_left, features_right = (torch.from_numpy(each.features) for each in (left, right))
    sums = torch.zeros(members_left.shape[1], dtype=torch.float64)
    for rows, members in zip(features_left.split(_ROWS), members_left.split(_ROWS), strict=True):
        kernel = _shape_kernel(rows @ features_right.T, rows.shape[1])  # [rows, M]
        sums += (kernel @ members_right).mul_(members).sum(dim=0, dtype=torch.float64)
    return sums


def _shape_kernel(products: Tensor, num_features: int) -> Tensor:
    """Turn products of features, in place, into the kernel (x.y / F + 1)^3."""
    base = products.div_(num_features).add_(1.0)
    return base * base * base  # a general power takes many times as long
