"""Where this repository departs from the paper or had to choose, and what its numbers cannot say.

Plain statements for the report's page. A departure in code carries the word DEVIATION in its
docstring or a comment; the ones that bear on results are listed here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """One departure or choice.

    Attributes:
        topic: what it is about.
        paper: what the sources say.
        here: what is done instead.
    """

    topic: str
    paper: str
    here: str


NOT_GIVEN = "not given in the sources at hand"

DEVIATIONS = (
    Deviation(
        "Size of the study",
        "MNIST and FFHQ; cohort sizes " + NOT_GIVEN,
        "the image, step and instance counts of the table above; every one is a value in "
        "params.yaml",
    ),
    Deviation(
        "Architectures",
        "“a small DCGAN” and “a vanilla CNN classifier”; layers and widths " + NOT_GIVEN,
        "small networks of this repository's own, with the widths of their recipes",
    ),
    Deviation(
        "Optimisers, batch size, length of training",
        NOT_GIVEN,
        "Adam with the settings of the recipes; all instances of a recipe train for the "
        "same number of steps",
    ),
    Deviation(
        "Which weights are kept",
        NOT_GIVEN,
        "those of the last step, or their moving average where a recipe asks for one; no instance "
        "is chosen or dropped by its result",
    ),
    Deviation(
        "Iterations on MNIST",
        "five iterations are reported for StyleGAN2 on FFHQ with phi = 0.001; none for MNIST",
        "the same loss with the phi, dataset and number of iterations of this study",
    ),
    Deviation(
        "Which images classifiers are tested on",
        NOT_GIVEN,
        "each generator is sampled once, and all classifiers score these same images; accuracy on "
        "reals and AUC are against the real test split",
    ),
    Deviation(
        "FID",
        "protocol and feature extractor " + NOT_GIVEN,
        "features of a small LeNet trained on MNIST digits and kept in the package (wider than "
        "LeNet-5, with ReLU and max pooling), against the real test split. Its scale is not that "
        "of Inception FID",
    ),
    Deviation(
        "What ± covers",
        NOT_GIVEN,
        "sample standard deviation (divided by one less than n) over pairs of generator and "
        "classifier",
    ),
    Deviation(
        "Classifier augmentation and truncation",
        NOT_GIVEN,
        "as in the recipes and cohorts of params.yaml; the default is none",
    ),
)

LIMITS = (
    "A handful of instances per cohort shows that an effect can occur and roughly how large it is. "
    "It cannot show how often it occurs: a rare instance that fools everybody, or clusters among "
    "classifiers, can be missed altogether.",
    "± is the spread over a few pairs that share generators and classifiers, so the pairs are not "
    "independent. It is no confidence interval, and two readings whose ± overlap may differ, as "
    "two whose ± do not overlap may agree with other seeds.",
    "Training is short and on one dataset. That a generator still fails at something does not show "
    "that it could not learn it with more steps, and nothing here speaks to other data, larger "
    "images or other architectures.",
    "A detection rate near 0 at threshold 0.5 on generated images alone cannot tell “the "
    "artefacts are gone” from “the scores have shifted”. The AUC against reals is given beside it: "
    "near 0.5 the classifier no longer separates the two, near 1 it still would at another "
    "threshold, and below 0.5 it takes generated images for more real than reals.",
    "A high detection rate means nothing without the classifier's accuracy on reals, which is "
    "why it stands in every table.",
    "FID on a small test split has a floor above 0: the row “real train split” shows it. FIDs "
    "compare within this report and with reports of the same protocol, not with published ones.",
    "The level of any number depends on choices that the sources do not give. What may be "
    "compared with the paper is the pattern (what rises, falls or stays), not the level.",
)
