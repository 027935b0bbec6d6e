"""Variance components of pairs of instances in chains, and the half-widths that they predict.

The model of a number of chain s, generator g and classifier c of that chain:

    y_sgc = mean + chain_s + generator_sg + classifier_sc + pair_sgc

with independent parts of mean 0. The components are for tables and for planning; verdicts rest on
intervals over chains (chains.py) and need none of them.

Source: method of moments by squared differences. Two numbers of the model differ by the parts that
they do not share, so half the mean squared difference over all pairs of numbers that share the same
is a sum of components, whatever numbers are missing. With none missing this is the analysis of
variance: Searle, Casella and McCulloch 1992, Variance Components, chapters 4 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from knowledge_gaps.statistics.chains import CONFIDENCE, Floats

Mask = npt.NDArray[np.bool_]

CHAIN, GENERATOR, CLASSIFIER, PAIR = "chain", "generator", "classifier", "pair"


@dataclass(frozen=True)
class Components:
    """Variances of the parts of a number, squared units of the measure.

    A part that the design cannot tell apart is NaN, and its variance is in another one: with one
    generator a chain, the generator's is in the chain's, and the pair's in the classifier's; with
    one classifier likewise; with neither, all is the chain's. Where every generator of a chain
    meets another classifier, all but the chain's is the generator's. The chain's is NaN with one
    chain.
    """

    mean: float  # over all numbers
    chain: float
    generator: float
    classifier: float
    pair: float  # with the noise of counting images
    truncated: tuple[str, ...]  # names of the parts whose estimate was negative, set to 0
    num_chains: int  # that have a number

    def predict_variance(self, num_generators: int, num_classifiers: int) -> float:
        """Predict the variance over chains of a chain's mean over so many instances a side.

        A part that is not told apart shrinks as the coarser one does, so the prediction is not
        too small. NaN when the chain's variance is not known.
        """
        parts = (
            (self.generator, num_generators),
            (self.classifier, num_classifiers),
            (self.pair, num_generators * num_classifiers),
        )
        return self.chain + sum(part / num for part, num in parts if not math.isnan(part))


def estimate_components(values: Floats) -> Components:
    """Estimate the components by the method of moments.

    Every two numbers that can be compared weigh the same, so chains with more pairs count for more.

    Args:
        values: [S, n, m] of S chains with n generators and m classifiers each; NaN where there is
            no pair. Effects that are no pairs are [S, 1, 1]: all their variance is the chain's.
    """
    is_pair = ~np.isnan(values)
    mean = float(values[is_pair].mean()) if is_pair.any() else math.nan
    centred = np.where(is_pair, values - mean, 0.0)  # spares digits in the squares
    # summed squared differences, and how many, of numbers that share ...
    generator = _sum_differences(centred, is_pair, 2)
    classifier = _sum_differences(centred, is_pair, 1)
    chain = _sum_differences(centred, is_pair, (1, 2))
    everything = _sum_differences(centred, is_pair, (0, 1, 2))
    same_generator, same_classifier = _halve(generator), _halve(classifier)
    same_chain = _halve(chain - generator - classifier)
    other_chain = _halve(everything - chain)
    found = _solve(same_generator, same_classifier, same_chain, other_chain)
    truncated = tuple(name for name, variance in found.items() if variance < 0)
    return Components(
        mean=mean,
        **{name: math.nan if math.isnan(x) else max(x, 0.0) for name, x in found.items()},
        truncated=truncated,
        num_chains=int(is_pair.any(axis=(1, 2)).sum()),
    )


def predict_half_width(
    components: Components,
    num_chains: int,
    num_generators: int,
    num_classifiers: int,
    confidence: float = CONFIDENCE,
) -> float:
    """Predict half the width of the interval of a mean over chains.

    Of a share it is that on the PLAIN scale, which the logit interval has on average over its two
    sides unless it is wide or near 0 or 1.

    Args:
        components: of a pilot, for the same measure.
        num_chains: of the study that is planned.
        num_generators: of a cell in each chain.
        num_classifiers: likewise; 1 for measures of generators alone.
        confidence: level of the interval.

    Returns:
        In units of the measure; NaN with fewer than two chains, or when the pilot had one.
    """
    if num_chains < 2:
        return math.nan
    quantile = -float(stdtrit(num_chains - 1, (1 - confidence) / 2))
    variance = components.predict_variance(num_generators, num_classifiers)
    return quantile * math.sqrt(variance / num_chains)


def _sum_differences(centred: Floats, is_pair: Mask, axes: int | tuple[int, ...]) -> Floats:
    """Sum squared differences over all two numbers of a group: [2], the sum and how many.

    `axes` are those that vary within a group. sum (a - b)^2 = n sum a^2 - (sum a)^2.
    """
    sizes = is_pair.sum(axis=axes).astype(np.float64)
    squares = (centred**2).sum(axis=axes)
    sums = sizes * squares - centred.sum(axis=axes) ** 2
    return np.array([sums.sum(), (sizes * (sizes - 1) / 2).sum()])


def _halve(summed: Floats) -> float:
    """Return half the mean squared difference; NaN when no two numbers are compared."""
    return float(summed[0] / summed[1] / 2) if summed[1] > 0 else math.nan


def _solve(
    same_generator: float, same_classifier: float, same_chain: float, other_chain: float
) -> dict[str, float]:
    """Solve for the components; each argument is NaN when no two numbers are compared.

    They are classifier + pair, generator + pair, these three, and all four.
    """
    known = [x for x in (same_chain, same_generator, same_classifier) if not math.isnan(x)]
    chain = other_chain - (known[0] if known else 0.0)
    if len(known) == 3:
        generator, classifier = same_chain - same_generator, same_chain - same_classifier
        return _name(chain, generator, classifier, same_chain - generator - classifier)
    if math.isnan(same_chain):  # one instance on a side
        return _name(chain, same_classifier, same_generator, math.nan)
    if math.isnan(same_classifier):
        rest = 0.0 if math.isnan(same_generator) else same_generator
        return _name(chain, same_chain - rest, same_generator, math.nan)
    return _name(chain, same_classifier, same_chain - same_classifier, math.nan)


def _name(chain: float, generator: float, classifier: float, pair: float) -> dict[str, float]:
    return {CHAIN: chain, GENERATOR: generator, CLASSIFIER: classifier, PAIR: pair}
