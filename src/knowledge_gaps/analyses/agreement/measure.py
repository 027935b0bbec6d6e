"""Asking classifiers about the same images, and comparing what two of them made of these.

The measures are in `knowledge_gaps.statistics.agreement`; which classifiers are asked about which
images is known by `knowledge_gaps.stages.agreement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.batches import Images, count_scored, split_images
from knowledge_gaps.evaluation.detection import score_images
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.statistics.agreement import (
    MIN_GRAM_IMAGES,
    compute_cka,
    compute_error_consistency,
    compute_gram,
)

MAX_CKA_IMAGES = 2_000  # of a set of images; the estimate of CKA does not depend on how many

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """Images of one file; several make a set of images.

    Attributes:
        path: of the file.
        num_images: how many of them, from its start.
        is_real: whether they are reals.
        in_loss: instances of the classifiers that their generator was trained to fool.
    """

    path: Path
    num_images: int
    is_real: bool
    in_loss: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a classifier made of a set of images.

    Attributes:
        correct: [N], whether it is right about each image.
        gram: float32 [M, M], inner products of the features of some images of each source.
    """

    correct: BoolArray
    gram: npt.NDArray[np.float32]


def ask_classifier(classifier: GanClassifier, sources: Sequence[Source]) -> Answer:
    """Ask a classifier about a set of images.

    Args:
        classifier: in evaluation mode.
        sources: of the set.

    Raises:
        UserError: when a file cannot be read.
        ValueError: when the classifier has no linear layer.
    """
    correct: list[BoolArray] = []
    features: list[npt.NDArray[np.float32]] = []
    for source, num_features in zip(sources, _count_cka_images(sources), strict=True):
        images = open_images(source.path)
        scores = score_images(classifier, images, num_images=source.num_images)
        correct.append((scores > 0) == source.is_real)  # a logit of 0 calls an image generated
        features.append(extract_features(classifier, images, num_features))
    gram = compute_gram(np.concatenate(features))
    return Answer(np.concatenate(correct), gram.astype(np.float32))


@torch.no_grad()
def extract_features(
    classifier: GanClassifier, images: Images, num_images: int | None = None
) -> npt.NDArray[np.float32]:
    """Return the penultimate features: what the last linear layer of a classifier is given.

    Args:
        classifier: in evaluation mode.
        images: uint8 [N, C, H, W], at least one.
        num_images: how many of the first images; None for all.

    Returns:
        float32 [N, F].

    Raises:
        UserError: when no linear layer runs.
    """
    given: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        given.append(inputs[0])

    layers = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    device = next(classifier.parameters()).device
    features: list[Tensor] = []
    try:
        for batch in split_images(images, count_scored(classifier.spec), num_images):
            given.clear()
            classifier(to_float(torch.from_numpy(batch).to(device)))
            if not given:
                raise UserError(
                    f"{type(classifier.network).__name__}: no torch.nn.Linear runs, whose inputs "
                    "are the features that are compared; a classifier's head has to be one"
                )
            features.append(given[-1].flatten(1).float().cpu())
    finally:
        for hook in hooks:
            hook.remove()
    extracted: npt.NDArray[np.float32] = torch.cat(features).numpy()
    return extracted


def compare_answers(
    first: Answer, second: Answer, sources: Sequence[Source], kept: Sequence[Source]
) -> dict[str, float | None]:
    """Compare two classifiers on some sources of the set that both were asked about.

    Args:
        first: of one classifier.
        second: of the other one.
        sources: of the set.
        kept: the sources that are looked at; at least one.

    Returns:
        By column of the table; None for a number that cannot be computed.
    """
    is_kept = np.array([source in kept for source in sources])
    seen = np.repeat(is_kept, [source.num_images for source in sources])
    errors = compute_error_consistency(first.correct[seen], second.correct[seen])
    compared = np.flatnonzero(np.repeat(is_kept, _count_cka_images(sources)))
    cka = float("nan")
    if len(compared) >= MIN_GRAM_IMAGES:
        grams = (answer.gram[np.ix_(compared, compared)] for answer in (first, second))
        cka = compute_cka(*(gram.astype(np.float64) for gram in grams))
    return {
        "num_images": errors.num_images,
        "num_errors_a": errors.num_errors_a,
        "num_errors_b": errors.num_errors_b,
        "num_errors_both": errors.num_errors_both,
        "observed_agreement": errors.observed,
        "expected_agreement": errors.expected,
        "error_consistency": None if np.isnan(errors.kappa) else errors.kappa,
        "num_cka_images": len(compared),
        "cka": None if np.isnan(cka) else cka,
    }


def _count_cka_images(sources: Sequence[Source]) -> list[int]:
    """Share the images whose features are compared among the sources, as their images are."""
    total = sum(source.num_images for source in sources)
    share = min(1.0, MAX_CKA_IMAGES / total)
    return [int(source.num_images * share) for source in sources]
