"""How good generated images are: the metrics of the quality table, functions of features.

The Frechet distance, precision and recall are torch-fidelity's. KID's subsets, kernel and estimate
are its too, but its subsets share images, and it computes the kernel of the same two images anew
for each of them; here every pair is computed once, in blocks. For density, coverage and the nearest
real there is no library that bounds its memory and keeps to one thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import split_images
from knowledge_gaps.evaluation.registry import FeatureSet, FloatArray
from knowledge_gaps.statistics.measures import METRICS

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # or the size of the smaller set
KID_SEED = 2020
NUM_NEIGHBOURS = 3  # k of precision and recall (Kynkaanniemi et al. 2019)
NUM_NEIGHBOURS_DENSITY = 5  # k of density and coverage (Naeem et al. 2020)
MEMORISED_QUANTILE = 0.01
_MISSING_FACTOR = 10  # a class that is so many times rarer than among the reals is missing

_CONTRAST_BATCH_SIZE = 100
# rows of a matrix of pairs at a time
KERNELS_BATCH_SIZE = 500  # 24 MB with its copies for 4,000 images
DISTANCES_BATCH_SIZE = 250
NEAREST_BATCH_SIZE = 128  # 31 MB against 60,000 training reals

Metrics = dict[str, float | None]


def compute_frechet(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    metric = fid_statistics_to_metric(generated.statistics, real.statistics, verbose=False)
    return float(metric[KEY_METRIC_FID])


def compute_kid(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return mean and standard deviation over subsets of the unbiased MMD^2 with a cubic kernel.

    The subsets share images, so the deviation is no standard error (Binkowski et al. 2018).
    """
    size = min(KID_SUBSET_SIZE, len(generated), len(real))
    members, members_real = _draw_subsets(len(generated), len(real), size)
    within = _sum_within(generated, members) + _sum_within(real, members_real)
    across = _sum_pairs(generated, real, members, members_real)
    estimates = within / (size * (size - 1)) - 2 * across / size**2  # eq. 4
    return float(estimates.mean()), float(estimates.std(correction=0))


def _draw_subsets(num_images: int, num_reals: int, size: int) -> tuple[Tensor, Tensor]:
    """Draw who is in which subset, as torch-fidelity does: float32 [N, S] and [M, S] of 0 and 1."""
    rng = np.random.RandomState(KID_SEED)
    members, members_real = (torch.zeros(KID_SUBSETS, count) for count in (num_images, num_reals))
    for subset in range(KID_SUBSETS):
        members[subset, rng.choice(num_images, size, replace=False)] = 1
        members_real[subset, rng.choice(num_reals, size, replace=False)] = 1
    return members.T.contiguous(), members_real.T.contiguous()


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
    batches = (each.split(KERNELS_BATCH_SIZE) for each in (features_left, members_left))
    for rows, members in zip(*batches, strict=True):
        kernel = _shape_kernel(rows @ features_right.T, rows.shape[1])  # [rows, M]
        sums += (kernel @ members_right).mul_(members).sum(dim=0, dtype=torch.float64)
    return sums


def _shape_kernel(products: Tensor, num_features: int) -> Tensor:
    """Turn products of features, in place, into the kernel (x.y / F + 1)^3."""
    base = products.div_(num_features).add_(1.0)
    return base * base * base  # a general power takes many times as long


class Nearest(NamedTuple):
    """The nearest real of each image, and its Euclidean distance in units of the features."""

    indices: npt.NDArray[np.int64]  # [N], into the reals
    distances: FloatArray  # [N]


def find_nearest(features: FloatArray, features_real: FloatArray) -> Nearest:
    """Find the nearest real [M, F] of each image [N, F]; of equally near ones the first."""
    images, reals = torch.from_numpy(features), torch.from_numpy(features_real)
    squares = reals.square().sum(dim=1)
    # one block for all batches: freed ones would pile up
    block = torch.empty(NEAREST_BATCH_SIZE, len(reals))
    parts = []
    for batch in images.split(NEAREST_BATCH_SIZE):
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
    perfect generator shows, and 1 one that repeats the training set.

    The distances are those to the nearest training reals, float32 [N] of the images and [M] of
    reals that are not in the training set.
    """
    threshold = np.quantile(distances_held_out, MEMORISED_QUANTILE)
    return float(np.mean(distances < threshold))


def compute_density_coverage(generated: FeatureSet, reals: Reals) -> tuple[float, float]:
    """Return density and coverage, with k = 5 (Naeem et al. 2020, equations 3 and 4).

    Density is the mean number of neighbourhoods that a generated image lies in, divided by k;
    coverage the share of the reals with a generated image in theirs. A real's neighbourhood is the
    open ball up to its k-th nearest real, as in the authors' code: a set compared with itself has
    density 1, not 1 + 1/k.
    """
    images, test = torch.from_numpy(generated.features), torch.from_numpy(reals.test.features)
    limits = torch.from_numpy(reals.radii)[:, None].split(DISTANCES_BATCH_SIZE)
    parts = [
        (torch.cdist(batch, images) < limit).sum(dim=1)  # [B, N] -> [B]
        for batch, limit in zip(test.split(DISTANCES_BATCH_SIZE), limits, strict=True)
    ]
    num_inside = torch.cat(parts)  # generated images in each real's neighbourhood
    density = int(num_inside.sum()) / (NUM_NEIGHBOURS_DENSITY * len(generated))  # eq. 3
    return density, int((num_inside > 0).sum()) / len(test)  # eq. 4


def compute_precision_recall(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return improved precision and recall (Kynkaanniemi et al. 2019), both in [0, 1]."""
    from torch_fidelity import metric_prc

    metric = metric_prc.prc_features_to_metric(
        torch.from_numpy(generated.features),  # the library's precision is about the first set
        torch.from_numpy(real.features),
        prc_neighborhood=NUM_NEIGHBOURS,
        prc_batch_size=DISTANCES_BATCH_SIZE,
        save_cpu_ram=True,  # batches of rows instead of whole matrices
        verbose=False,
    )
    keys = (metric_prc.KEY_METRIC_PRECISION, metric_prc.KEY_METRIC_RECALL)
    precision, recall = (float(metric[key]) for key in keys)
    return precision, recall


@dataclass(frozen=True, eq=False)
class Reals:
    """The reals that all generators are compared with; what depends on them alone is kept."""

    test: FeatureSet  # of the test split: what metrics compare generated images with
    training: FeatureSet  # of the whole train split: what a generator might have memorised

    @cached_property
    def radii(self) -> FloatArray:
        """Distances float32 [M] of the test reals, above 5, to the fifth nearest other one."""
        images = torch.from_numpy(self.test.features)
        parts = [
            # the nearest of all is the image itself
            torch.cdist(batch, images).kthvalue(NUM_NEIGHBOURS_DENSITY + 1, dim=1).values
            for batch in images.split(DISTANCES_BATCH_SIZE)
        ]
        return torch.cat(parts).numpy()

    @cached_property
    def distances(self) -> FloatArray:
        """Distances float32 [M] of the test reals to their nearest training reals."""
        return find_nearest(self.test.features, self.training.features).distances


def compute_quality(generated: FeatureSet, reals: Reals, distances: FloatArray) -> Metrics:
    """Compute METRICS of at least 4 generated images; None for what needs an extractor's classes.

    There are at least 6 reals of each split; distances are those to the nearest training reals,
    float32 [N].
    """
    class_entropy = missing_classes = None
    if generated.logits is not None and reals.test.logits is not None:
        class_entropy = compute_class_entropy(generated.logits)
        missing_classes = count_missing_classes(generated.logits, reals.test.logits)
    values = (
        compute_frechet(generated, reals.test),
        *compute_kid(generated, reals.test),
        *compute_precision_recall(generated, reals.test),
        *compute_density_coverage(generated, reals),
        class_entropy,
        missing_classes,
        compute_memorised(distances, reals.distances),
    )
    return dict(zip(METRICS, values, strict=True))


def compute_floor(reals: Reals, num_images: int) -> Metrics:
    """Compute what a perfect generator would reach: training reals in place of generated images.

    Memorised is the exception. Training reals have themselves for neighbours, so their own value
    would be 1 and say nothing; here stands that of the test reals, which is 0.01 by construction.
    """
    return compute_quality(reals.training.take_first(num_images), reals, reals.distances)


def measure_contrast(images: Images, num_images: int | None = None) -> float:
    """Measure the mean of the standard deviation of images' pixels, in levels of [0, 127.5].

    Channels are measured by themselves, for an image of one colour is as empty as a grey one.
    """
    batches = split_images(images, _CONTRAST_BATCH_SIZE, num_images)
    return float(np.mean([image.std(axis=(1, 2)) for batch in batches for image in batch]))


def compute_class_entropy(logits: FloatArray) -> float:
    """Return the entropy in nats of the histogram of classes predicted by logits [N, K]."""
    counts = _count_classes(logits)
    shares = counts[counts > 0] / len(logits)
    return math.fsum(-shares * np.log(shares))


def count_missing_classes(logits: FloatArray, logits_real: FloatArray) -> int:
    """Count the classes that generated images hardly ever show, by logits [N, K] and [M, K].

    A class is missing when its share among the generated images is below a tenth of its share among
    the reals; both are predictions, so an extractor's habitual mistakes weigh on both sides.
    """
    counts, counts_real = _count_classes(logits), _count_classes(logits_real)
    # both shares times both sizes: whole numbers, so that a class of just a tenth is not missing
    is_missing = _MISSING_FACTOR * counts * len(logits_real) < counts_real * len(logits)
    return int(is_missing.sum())


def _count_classes(logits: FloatArray) -> npt.NDArray[np.int64]:
    """Count the images of each class: int64 [K]."""
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
