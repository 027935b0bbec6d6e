"""Generated images and reals as neighbours of one another in the space of features.

Precision and recall are torch-fidelity's. For density, coverage and the nearest training real there
is no library that bounds its memory and keeps to one thread, so they are here, in blocks of a
matrix of distances.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.evaluation.quality.features import FeatureSet, FloatArray

NUM_NEIGHBOURS = 3  # k of precision and recall (Kynkaanniemi et al. 2019)
NUM_NEIGHBOURS_DENSITY = 5  # k of density and coverage (Naeem et al. 2020)
MEMORISED_QUANTILE = 0.01
DISTANCES_BATCH_SIZE = 250  # rows of the distance matrix at a time
NEAREST_BATCH_SIZE = 128  # the same against all training reals: 31 MB for 60,000


class Nearest(NamedTuple):
    """The nearest real of each image, and its Euclidean distance in units of the features."""

    indices: npt.NDArray[np.int64]  # [N], into the reals
    distances: FloatArray  # [N]


def find_nearest(
    features: FloatArray, features_real: FloatArray, batch_size: int = NEAREST_BATCH_SIZE
) -> Nearest:
    """Find the nearest real of each image, by comparing all of them.

    Args:
        features: float32 [N, F].
        features_real: float32 [M, F], M at least 1; of equally near ones the first is taken.
        batch_size: images at a time; changes speed and memory.
    """
    images, reals = torch.from_numpy(features), torch.from_numpy(features_real)
    squares = reals.square().sum(dim=1)
    block = torch.empty(batch_size, len(reals))  # one for all batches: freed ones would pile up
    parts = []
    for batch in images.split(batch_size):
        # |x - y|^2 = |x|^2 - 2 x.y + |y|^2, and |x|^2 is the same for all y
        scores = torch.addmm(squares[None], batch, reals.T, alpha=-2, out=block[: len(batch)])
        parts.append(scores.argmin(dim=1))
    indices = torch.cat(parts)
    distances = (images - reals[indices]).norm(dim=1)  # without that sum's loss of digits
    return Nearest(indices.numpy(), distances.numpy())


def list_closest(nearest: Nearest, num_pairs: int) -> list[tuple[int, int, float]]:
    """List the images that are closest to a real as (image, its nearest real, distance)."""
    order = np.argsort(nearest.distances, kind="stable")[:num_pairs]
    return [(int(i), int(nearest.indices[i]), float(nearest.distances[i])) for i in order]


def compute_memorised(distances: FloatArray, distances_held_out: FloatArray) -> float:
    """Return the share of images that lie suspiciously close to a training real.

    Closer than that is one held-out real in a hundred, by mere likeness. So about 0.01 is what a
    perfect generator shows, 0 one whose images are far from all reals, and 1 one that repeats the
    training set.

    Args:
        distances: float32 [N] of the images to their nearest training reals.
        distances_held_out: float32 [M], the same of reals that are not in the training set; their
            0.01 quantile is the threshold, and an image on it does not count.
    """
    threshold = np.quantile(distances_held_out, MEMORISED_QUANTILE)
    return float(np.mean(distances < threshold))


def measure_radii(features: FloatArray, num_neighbours: int = NUM_NEIGHBOURS_DENSITY) -> FloatArray:
    """Measure how far the k-th nearest other image of a set is: [N, F], N above k, to [N]."""
    images = torch.from_numpy(features)
    parts = [
        # the nearest of all is the image itself
        torch.cdist(batch, images).kthvalue(num_neighbours + 1, dim=1).values
        for batch in images.split(DISTANCES_BATCH_SIZE)
    ]
    radii: FloatArray = torch.cat(parts).numpy()
    return radii


def compute_density_coverage(
    generated: FeatureSet, real: FeatureSet, radii: FloatArray
) -> tuple[float, float]:
    """Return density and coverage, with k = 5.

    Source: Naeem et al., Reliable fidelity and diversity metrics for generative models, 2020,
    equations 3 and 4. A real's neighbourhood is the open ball up to its k-th nearest real, as in
    the authors' code: a set compared with itself has density 1, and not 1 + 1/k.

    Args:
        generated: images to be judged.
        real: reals.
        radii: float32 [M] of the reals' neighbourhoods, from `measure_radii`.

    Returns:
        Density, the mean number of neighbourhoods that a generated image lies in, divided by k:
        0 far from all reals, about 1 for one distribution, above 1 where reals are dense. Coverage,
        the share of the reals with a generated image in their neighbourhood, in [0, 1].
    """
    images, reals = torch.from_numpy(generated.features), torch.from_numpy(real.features)
    limits = torch.from_numpy(radii)[:, None].split(DISTANCES_BATCH_SIZE)
    parts = [
        (torch.cdist(batch, images) < limit).sum(dim=1)  # [B, N] -> [B]
        for batch, limit in zip(reals.split(DISTANCES_BATCH_SIZE), limits, strict=True)
    ]
    num_inside = torch.cat(parts)  # generated images in each real's neighbourhood
    density = int(num_inside.sum()) / (NUM_NEIGHBOURS_DENSITY * len(generated))  # eq. 3
    return density, int((num_inside > 0).sum()) / len(real)  # eq. 4


def compute_precision_recall(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return improved precision and recall (Kynkaanniemi et al. 2019), both in [0, 1].

    Precision is the share of generated images among the reals' neighbourhoods (realism), recall
    the share of reals among those of the generated images (coverage).
    """
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    metric = prc_features_to_metric(
        torch.from_numpy(generated.features),  # the library's precision is about the first set
        torch.from_numpy(real.features),
        prc_neighborhood=NUM_NEIGHBOURS,
        prc_batch_size=DISTANCES_BATCH_SIZE,
        save_cpu_ram=True,  # batches of rows instead of whole matrices
        verbose=False,
    )
    return float(metric[KEY_METRIC_PRECISION]), float(metric[KEY_METRIC_RECALL])
