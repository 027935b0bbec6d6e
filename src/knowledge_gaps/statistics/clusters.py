"""Clusters of classifiers that are fooled by the same generators.

The matrix is directed: entry (i, j) is how well classifier i detects GANs that were trained to fool
classifier j. Members of a cluster are close in both directions; between clusters they may differ.

A matrix can be divided wherever classifiers are of some kinds and GANs are of some kinds. That is
no finding unless the kinds go together, so the test permutes the GANs (columns) alone: each
classifier is given the GANs against another one. The entries on the diagonal are of classifiers in
the loss, and say nothing of how these detect other GANs of that kind. Off the diagonal they would
make classifiers look alike, so each is replaced by that of the classifier with the most similar row
before columns are permuted.

Simulated with 6, 8 and 10 members and noise of 0.1, 1,000 matrices a case: where kinds, or effects
of rows and of columns, are unrelated, p is at most 0.05 in 5.0 to 7.8 % of cases (4.1 to 6.8 % if
the replaced entries were known). Kinds like those of the paper's table B that go together are found
in 46, 72 and 88 % (200 matrices each). Shuffling all entries off the diagonal finds unrelated kinds
in 26 %; permuting columns with the entries of classifiers in the loss finds 0.0 to 3.5 % of
unrelated kinds, and of those that go together 0, 2 and 13 %. Members are few: two kinds of three
coincide by chance once in twenty times, so seven are needed for p below 0.05.

Source: Sokal and Michener (1958) for average linkage; Rousseeuw (1987), Journal of Computational
and Applied Mathematics 20, for the silhouette; Kaufman and Rousseeuw (1990), Finding Groups in
Data, chapter 2, for 0.5 as the least value of a reasonable structure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from knowledge_gaps.statistics.chains import Floats

Labels = npt.NDArray[np.int64]

MIN_MEMBERS = 4  # three members have six permutations, and one division only
NUM_PERMUTATIONS = 2_000
BETWEEN_BELOW = 0.5  # a member is nearer to its own cluster than to the next by less than half
SIGNIFICANCE = 0.05
_ROUNDING = 1e-9  # scores that differ by less are equal


@dataclass(frozen=True)
class Clusters:
    """The best division of a matrix, and whether there is any.

    A silhouette is 1 for a member close to its own cluster and far from the next, 0 for one halfway
    or alone in its cluster, below 0 for one that is nearer to the next.
    """

    labels: Labels  # [n] cluster of each member; 0 is that of member 0, and so on
    silhouettes: Floats  # [n]
    score: float  # mean of the silhouettes
    p_value: float  # share of permutations of the columns whose score is as high
    p_error: float  # its standard error by the draw of permutations; 0 if all were taken
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
        """Whether a matrix with permuted columns is rarely divided as well, for any seed.

        The p-value is below the level by three of its standard errors.
        """
        return self.p_value + 3 * self.p_error < SIGNIFICANCE

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
    mean silhouette. The test permutes the columns, see this module's docstring; it takes all
    permutations where there are at most `num_permutations`, up to 6 members by default.

    The matrix is [n, n] in [0, 1]; its diagonal is not used, and off it every entry is finite.

    Returns:
        None when there are less than MIN_MEMBERS members.
    """
    if (num := len(matrix)) < MIN_MEMBERS:
        return None
    labels, silhouettes = _divide(matrix)
    score = float(silhouettes.mean())
    is_whole = math.factorial(num) <= num_permutations
    orders: Iterable[tuple[int, ...] | Labels] = permutations(range(num))
    if not is_whole:
        rng = np.random.default_rng([seed, num])
        orders = (rng.permutation(num) for _ in range(num_permutations))
    filled = _fill_diagonal(matrix)
    is_as_high = [
        float(_divide(filled[:, order])[1].mean()) >= score - _ROUNDING for order in orders
    ]
    # all permutations have the matrix itself among them; to those drawn it is added
    num_as_high, num_all = sum(is_as_high) + (not is_whole), len(is_as_high) + (not is_whole)
    p_value = num_as_high / num_all
    return Clusters(
        labels=labels,
        silhouettes=silhouettes,
        score=score,
        p_value=p_value,
        p_error=0.0 if is_whole else math.sqrt(p_value * (1 - p_value) / num_all),
        directed=_average_directed(matrix, labels),
    )


def _fill_diagonal(matrix: Floats) -> Floats:
    """Replace each entry of the diagonal by that of the member whose row is the most similar."""
    rows = matrix.copy()
    np.fill_diagonal(rows, np.nan)
    # mean over the columns that neither of two rows has on the diagonal
    distances = np.nanmean((rows[:, None] - rows) ** 2, axis=2)
    np.fill_diagonal(distances, np.inf)
    members = np.arange(len(rows))
    rows[members, members] = rows[distances.argmin(axis=1), members]
    return rows


def _divide(matrix: Floats) -> tuple[Labels, Floats]:
    """Find the division with the highest mean silhouette, the coarser one of equals, with all
    silhouettes. Clusters are numbered by their first members.
    """
    distances = (matrix + matrix.T) / 2
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average")
    firsts = list(range(len(matrix)))  # first member of each node of the tree
    divisions = [np.arange(len(matrix))]  # cluster of each member, by the cluster's first member
    for merged in tree[:-1, :2].astype(int):  # n - 1 clusters to 2
        low, high = sorted(firsts[node] for node in merged)
        divisions.append(np.where(divisions[-1] == high, low, divisions[-1]))
        firsts.append(low)
    labels = np.array(divisions[:0:-1])  # [n - 2, n], the coarsest first
    silhouettes = _compute_silhouettes(distances, labels)
    best = int(silhouettes.mean(axis=1).argmax())
    return np.unique(labels[best], return_inverse=True)[1], silhouettes[best]


def _compute_silhouettes(distances: Floats, labels: Labels) -> Floats:
    """Compute them for divisions [K, n] at once: sklearn's checks cost many times as much."""
    one_hot = labels[..., None] == np.arange(len(distances))  # [K, n, label]
    sizes = one_hot.sum(axis=1)  # [K, label]
    sums = distances @ one_hot.astype(np.float64)  # [K, n, label]
    own_size = np.take_along_axis(sizes, labels, axis=1)
    own = np.take_along_axis(sums, labels[..., None], axis=2)[..., 0] / np.maximum(own_size - 1, 1)
    is_other = ~one_hot & (sizes > 0)[:, None]
    other = np.where(is_other, sums / np.maximum(sizes, 1)[:, None], np.inf).min(axis=2)
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
