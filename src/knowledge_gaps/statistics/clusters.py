"""Clusters of classifiers that are fooled by the same generators.

The matrix is directed: entry (i, j) is how well classifier i detects GANs that were trained to fool
classifier j. Members of a cluster are close in both directions; between clusters they may differ.

Source: Sokal and Michener (1958) for average linkage; Rousseeuw (1987), Journal of Computational
and Applied Mathematics 20, for the silhouette; Kaufman and Rousseeuw (1990), Finding Groups in
Data, chapter 2, for 0.5 as the least value of a reasonable structure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from knowledge_gaps.statistics.bootstrap import Floats

Labels = npt.NDArray[np.int64]

MIN_MEMBERS = 4  # three members make one division only, and three entries no permutation test
NUM_PERMUTATIONS = 2_000
BETWEEN_BELOW = 0.5  # a member is nearer to its own cluster than to the next by less than half
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Clusters:
    """The best division of a matrix, and whether there is any.

    A silhouette is 1 for a member close to its own cluster and far from the next, 0 for one halfway
    or alone in its cluster, below 0 for one that is nearer to the next.
    """

    labels: Labels  # [n] cluster of each member; 0 is that of member 0, and so on
    silhouettes: Floats  # [n]
    score: float  # mean of the silhouettes
    p_value: float  # how often a matrix with its entries shuffled has a score as high
    # [clusters, clusters] mean detection by classifiers of one (row) of the GANs that fool those of
    # another (column), but for those that fool itself: NaN on the diagonal for a cluster of one
    directed: Floats

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The members of each cluster."""
        labels = range(int(self.labels.max()) + 1)
        return tuple(tuple(np.flatnonzero(self.labels == label).tolist()) for label in labels)

    @property
    def is_significant(self) -> bool:
        """Whether a shuffled matrix is rarely divided as well."""
        return self.p_value < SIGNIFICANCE

    @property
    def between(self) -> tuple[int, ...]:
        """Members that belong to no cluster clearly."""
        return tuple(np.flatnonzero(self.silhouettes < BETWEEN_BELOW).tolist())


def find_clusters(
    matrix: Floats, seed: int, num_permutations: int = NUM_PERMUTATIONS
) -> Clusters | None:
    """Divide classifiers into clusters that are fooled by the same generators.

    The distance of two members is the mean of their two entries: classifiers that miss one
    another's GANs are close. The number of clusters, from 2 to n - 1, is that with the highest
    mean silhouette. The test shuffles the entries off the diagonal, as if it did not matter who is
    asked about whom.

    The matrix is [n, n] in [0, 1]; its diagonal is not used, and off it every entry is finite.

    Returns:
        None when there are less than MIN_MEMBERS members.
    """
    if len(matrix) < MIN_MEMBERS:
        return None
    is_off = ~np.eye(len(matrix), dtype=bool)
    labels, silhouettes = _divide(matrix)
    score = float(silhouettes.mean())
    rng = np.random.default_rng([seed, len(matrix)])
    num_as_high = 0
    for _ in range(num_permutations):
        shuffled = np.zeros_like(matrix)
        shuffled[is_off] = rng.permutation(matrix[is_off])
        num_as_high += float(_divide(shuffled)[1].mean()) >= score
    return Clusters(
        labels=labels,
        silhouettes=silhouettes,
        score=score,
        p_value=(1 + num_as_high) / (1 + num_permutations),
        directed=_average_directed(matrix, labels),
    )


def _divide(matrix: Floats) -> tuple[Labels, Floats]:
    """Find the division with the highest mean silhouette, the coarser one of equals, with all
    silhouettes. Clusters are numbered by their first members.
    """
    distances = (matrix + matrix.T) / 2
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average")
    num = len(distances)
    clusters = {member: [member] for member in range(num)}
    labels, best, best_silhouettes = np.arange(num), np.arange(num), np.full(num, -np.inf)
    for step, (first, second) in enumerate(tree[:-1, :2].astype(int)):  # n - 1 clusters to 2
        clusters[num + step] = clusters.pop(first) + clusters.pop(second)
        for label, members in enumerate(sorted(clusters.values(), key=min)):
            labels[members] = label
        silhouettes = _compute_silhouettes(distances, labels)
        if silhouettes.mean() >= best_silhouettes.mean():
            best, best_silhouettes = labels.copy(), silhouettes
    return best, best_silhouettes


def _compute_silhouettes(distances: Floats, labels: Labels) -> Floats:
    """Do without the checks of sklearn, which cost many times as much."""
    one_hot = np.eye(labels.max() + 1)[labels]  # [n, clusters]
    sizes = one_hot.sum(axis=0)
    sums = distances @ one_hot
    own_size = sizes[labels]
    own = sums[np.arange(len(labels)), labels] / np.maximum(own_size - 1, 1)
    other = np.where(one_hot == 1, np.inf, sums / sizes).min(axis=1)
    larger = np.maximum(own, other)
    scores = (other - own) / np.where(larger == 0, 1.0, larger)
    return np.where(own_size == 1, 0.0, scores)


def _average_directed(matrix: Floats, labels: Labels) -> Floats:
    is_off = ~np.eye(len(matrix), dtype=bool)
    num = int(labels.max()) + 1
    table = np.full((num, num), np.nan)
    for row, column in np.ndindex(num, num):
        is_pair = np.outer(labels == row, labels == column) & is_off
        if is_pair.any():
            table[row, column] = matrix[is_pair].mean()
    return table
