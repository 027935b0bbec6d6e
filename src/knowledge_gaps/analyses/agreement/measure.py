"""How alike a cohort's classifiers of the first chain are, in their errors and their features.

Pairs are compared on reals and generators that none of the cohort was trained on, and on generators
that fool classifiers of the cohort.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import FIRST_CHAIN, Instance
from knowledge_gaps.core.layout import PREPARED, TEST_IMAGES, get_samples_file
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.evaluation.batches import count_scored, split_images
from knowledge_gaps.evaluation.detection import score_images
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.readings.cohorts import list_fooled
from knowledge_gaps.statistics import agreement
from knowledge_gaps.statistics.agreement import compute_cka
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import list_members

MAX_CKA_IMAGES = 2_000  # of a set of images; the estimate of CKA does not depend on how many


class Source(NamedTuple):
    """The first images of a file; `in_loss` are the classifiers that their generator fools."""

    path: Path
    num_images: int
    is_real: bool
    in_loss: tuple[int, ...] = ()


ImageSet = tuple[Source, ...]


class Answers(NamedTuple):
    """Whether a classifier is right, bool [N], and the Gram matrix of some images, [M, M]."""

    correct: npt.NDArray[np.bool_]
    gram: npt.NDArray[np.float32]


def choose_cohort(study: Study) -> str | None:
    """Return the cohort that is fooled one by one (report.mutual_fooling), else of iteration 0."""
    report = study.report
    if report.mutual_fooling:
        return list_fooled(study, report.mutual_fooling[0])[0]
    return report.iterations[0].classifiers if report.iterations else None


def list_sets(root: Path, study: Study, cohort: str) -> dict[str, ImageSet]:
    """List the images that the classifiers of a cohort are compared on, by kind; none is empty."""
    fooling = _list_fooling(root, study, cohort)
    sets = {
        agreement.HELD_OUT: _list_held_out(root, study, cohort),
        agreement.FOOLING: fooling,
        agreement.FOOLING_OTHERS: fooling,
    }
    return {kind: sources for kind, sources in sets.items() if sources}


def _list_held_out(root: Path, study: Study, cohort: str) -> ImageSet:
    """List reals, and as many images of the other instances of GAN cohorts it was trained on.

    Without any such instance, the set is empty.
    """
    detected = list_members(study, study.classifiers[cohort].detects)
    files = [
        get_samples_file(root, name, Instance(FIRST_CHAIN, index))
        for name in dict.fromkeys(gans.partition("/")[2] for gans, _ in detected)
        for index in range(study.gans[name].instances)
        if (f"{Kind.GANS}/{name}", index) not in detected
    ]
    if not files:
        return ()
    reals_file = root / PREPARED / TEST_IMAGES
    num_reals = len(open_images(reals_file))
    files = files[:num_reals]  # an image of each at least
    share = min(study.evaluation.num_images, num_reals // len(files))
    reals = Source(reals_file, share * len(files), is_real=True)
    return (reals, *(Source(path, share, is_real=False) for path in files))


def _list_fooling(root: Path, study: Study, cohort: str) -> ImageSet:
    """List images of the generators that fool classifiers of a cohort.

    The GAN cohorts are those of report.mutual_fooling, or else the first iteration's that does;
    they share the set evenly, and so do the instances of each.
    """
    report = study.report
    fooled: dict[str, tuple[int, ...]] = {}
    for name in report.mutual_fooling or [iteration.gans for iteration in report.iterations]:
        members = list_members(study, study.gans[name].fools)
        in_loss = tuple(index for path, index in members if path == f"classifiers/{cohort}")
        if in_loss and study.gans[name].phi > 0 and (report.mutual_fooling or not fooled):
            fooled[name] = in_loss
    num_instances = {name: study.gans[name].instances for name in fooled}
    num_of_cohort = min(num_instances.values(), default=0) * study.evaluation.num_images
    shares = {name: max(1, num_of_cohort // num) for name, num in num_instances.items()}
    return tuple(
        Source(get_samples_file(root, name, instance), shares[name], False, fooled[name])
        for name in fooled
        for instance in (Instance(FIRST_CHAIN, index) for index in range(num_instances[name]))
    )


def answer_sets(directory: Path, sets: Sequence[ImageSet]) -> dict[ImageSet, Answers]:
    """Load a classifier, and let it score sets of images and extract the features of some.

    Raises UserError when a file is missing or altered, or the classifier has no linear layer.
    """
    classifier, answers = load_classifier(directory).to(find_device()), {}
    for sources in sets:
        correct, features = [], []
        for source, num_features in zip(sources, _count_cka_images(sources), strict=True):
            images = open_images(source.path)
            scores = score_images(classifier, images, num_images=source.num_images)
            correct.append((scores > 0) == source.is_real)  # a logit of 0 calls an image generated
            features.append(extract_features(classifier, images, num_features))
        gram = agreement.compute_gram(np.concatenate(features)).astype(np.float32)
        answers[sources] = Answers(np.concatenate(correct), gram)
    return answers


@torch.no_grad()
def extract_features(
    classifier: GanClassifier, images: Images, num_images: int | None = None
) -> npt.NDArray[np.float32]:
    """Return the inputs of the last linear layer, float32 [N, F], of the first images."""
    inputs: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        for layer in classifier.modules()
        if isinstance(layer, nn.Linear)
    ]
    device = next(classifier.parameters()).device
    features: list[Tensor] = []
    for batch in split_images(images, count_scored(classifier.spec), num_images):
        inputs.clear()
        classifier(to_float(torch.from_numpy(batch).to(device)))
        if not inputs:
            raise UserError(
                f"{type(classifier.network).__name__}: no torch.nn.Linear runs, whose inputs "
                "are the features that are compared; a classifier's head has to be one"
            )
        features.append(inputs[-1].flatten(1).float().cpu())
    for hook in hooks:
        hook.remove()
    return torch.cat(features).numpy()


def compare_pairs(
    kind: str, sources: ImageSet, answers: Sequence[Answers]
) -> Iterator[dict[str, Any]]:
    """Compare every two classifiers on a set of images, by their answers on it.

    FOOLING_OTHERS leaves out the generators that fool one of the two. Yields rows by column of
    agreement.csv, with NaN for a number that cannot be computed.
    """
    num_images, num_cka_images = [one.num_images for one in sources], _count_cka_images(sources)
    for a, b in combinations(range(len(answers)), 2):
        dropped = {a, b} if kind == agreement.FOOLING_OTHERS else set()
        is_kept = [dropped.isdisjoint(source.in_loss) for source in sources]
        if not any(is_kept):
            continue
        images = np.repeat(is_kept, num_images)
        correct = [answers[one].correct[images] for one in (a, b)]
        chosen = np.flatnonzero(np.repeat(is_kept, num_cka_images))
        index = np.ix_(chosen, chosen)
        grams = [answers[one].gram[index].astype(np.float64) for one in (a, b)]
        yield {
            "classifier_a": a,
            "classifier_b": b,
            "on_images": kind,
            **agreement.compute_error_consistency(*correct),
            "num_cka_images": len(chosen),
            "cka": compute_cka(*grams) if len(chosen) >= agreement.MIN_GRAM_IMAGES else math.nan,
        }


def _count_cka_images(sources: ImageSet) -> list[int]:
    """Share the images whose features are compared among the sources, as their images are."""
    share = min(1.0, MAX_CKA_IMAGES / sum(source.num_images for source in sources))
    return [int(source.num_images * share) for source in sources]
