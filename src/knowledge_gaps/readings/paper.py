"""The paper's own numbers, to stand beside those of a study.

Source: Pathak and Dufour, "Sequential Training of GANs Against GAN-Classifiers Reveals Correlated
Knowledge Gaps Present Among Independently Trained GAN Instances", CVPR 2023, arXiv:2303.15533
(CC BY 4.0); the tables as printed on the authors' poster (THU-PM-369). The paper's setting is
StyleGAN2 on FFHQ, so they are context for a study on MNIST and no target.
"""

from __future__ import annotations

from dataclasses import dataclass

CITATION = (
    "A. Pathak and N. Dufour, Sequential Training of GANs Against GAN-Classifiers Reveals "
    "Correlated “Knowledge Gaps” Present Among Independently Trained GAN Instances, CVPR 2023, "
    "arXiv:2303.15533"
)


@dataclass(frozen=True)
class PaperTable:
    """A table of accuracies on generated images."""

    title: str
    names: tuple[str, ...]  # of the rows, classifiers, and of the columns, which GANs are named by
    means: tuple[tuple[float, ...], ...]  # by row and column, in [0, 1]
    stds: tuple[tuple[float, ...], ...] | None = None  # over what is not known; None if not printed
    fid: tuple[float, ...] | None = None  # means by column


TABLE_ARCHITECTURES = PaperTable(
    title="Held-out classifiers against StyleGAN2 trained to fool one architecture (FFHQ)",
    names=("ResNet-50", "Inception-v3", "MobileNetV2"),
    means=((0.05, 0.74, 0.50), (0.51, 0.16, 0.53), (0.31, 0.36, 0.41)),
    stds=((0.02, 0.12, 0.39), (0.25, 0.26, 0.34), (0.17, 0.16, 0.38)),
)

TABLE_MUTUAL_FOOLING = PaperTable(
    title="MobileNetV2 classifiers against StyleGAN2 trained to fool one of them (FFHQ)",
    names=tuple(str(instance) for instance in range(10)),
    means=(
        (0.04, 0.06, 0.05, 0.08, 0.07, 0.06, 0.98, 0.98, 0.47, 0.95),
        (0.16, 0.05, 0.11, 0.10, 0.08, 0.10, 0.99, 0.99, 0.64, 0.97),
        (0.09, 0.08, 0.03, 0.10, 0.08, 0.08, 0.99, 0.99, 0.44, 0.94),
        (0.09, 0.05, 0.05, 0.03, 0.05, 0.05, 0.99, 0.99, 0.53, 0.96),
        (0.09, 0.05, 0.09, 0.06, 0.04, 0.10, 0.98, 0.98, 0.60, 0.94),
        (0.22, 0.15, 0.14, 0.20, 0.20, 0.05, 1.00, 1.00, 0.70, 0.98),
        (0.53, 0.45, 0.59, 0.37, 0.52, 0.35, 0.01, 0.21, 0.37, 0.03),
        (0.28, 0.29, 0.45, 0.17, 0.17, 0.21, 0.02, 0.00, 0.12, 0.03),
        (0.13, 0.14, 0.06, 0.11, 0.17, 0.09, 0.92, 0.91, 0.03, 0.74),
        (0.44, 0.42, 0.37, 0.34, 0.40, 0.33, 0.60, 0.70, 0.28, 0.02),
    ),
)

TABLE_ITERATIONS = PaperTable(
    title="ResNet-50 classifiers of five iterations against StyleGAN2 of five iterations (FFHQ)",
    names=tuple(f"iteration {iteration}" for iteration in range(5)),
    means=(
        (0.99, 0.03, 0.04, 0.05, 0.05),
        (0.00, 1.00, 0.01, 0.06, 0.01),
        (0.00, 0.73, 0.96, 0.01, 0.03),
        (0.00, 0.87, 0.18, 0.93, 0.02),
        (0.01, 0.71, 0.51, 0.07, 0.86),
    ),
    stds=(
        (0.00, 0.00, 0.01, 0.01, 0.01),
        (0.00, 0.01, 0.00, 0.00, 0.00),
        (0.00, 0.14, 0.05, 0.00, 0.01),
        (0.00, 0.11, 0.13, 0.07, 0.00),
        (0.00, 0.14, 0.14, 0.03, 0.11),
    ),
    fid=(36.98, 36.62, 36.67, 36.39, 36.83),
)
