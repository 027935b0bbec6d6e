"""Where a study departs from the paper or had to choose: its size, its networks, its measurements.

Plain statements for the report's page; what depends on the study is derived from it. A departure in
code carries the word DEVIATION in its docstring or a comment; the ones that bear on results are
listed here. Choices of training are in `knowledge_gaps.report.page.training`, what the numbers
cannot say in `knowledge_gaps.report.page.limits`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from knowledge_gaps.readings.formats import format_phis
from knowledge_gaps.report.page.training import Choice, list_training
from knowledge_gaps.report.setting import (
    CNN,
    DCGAN,
    DRAWN,
    LENET_DATASET,
    PAPER_DATASETS,
    STYLEGAN2,
    describe_architecture,
    describe_dataset,
    get_extractor,
)
from knowledge_gaps.study import Study, TrainingSettings

NOT_GIVEN = "not given in the sources at hand"
_LENET = "lenet"
_SMALL_NETWORKS = "“a small DCGAN” and “a vanilla CNN classifier”; layers and widths "
_LARGE_NETWORKS = (
    "StyleGAN2 against ResNet-50, Inception-v3 and MobileNetV2; resolution, configuration and "
    "what the classifiers start from "
)
# what the rows of the paper's networks speak of; every other architecture is a user's own
_SMALL = frozenset({DCGAN, CNN})
_LARGE = frozenset({STYLEGAN2, "resnet50", "inception_v3", "mobilenet_v2"})


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


def make_deviations(study: Study) -> tuple[Deviation, ...]:
    """List the departures and choices of a study: its size, its training, its measurements."""
    training = (_make_row(choice) for choice in list_training(study))
    return (*_list_size(study), *training, *_list_measurements(study))


def _make_row(choice: Choice) -> Deviation:
    paper = NOT_GIVEN if not choice.paper else f"{choice.paper} {NOT_GIVEN}"
    return Deviation(choice.topic, paper, choice.here)


def _list_size(study: Study) -> Iterator[Deviation]:
    yield Deviation(
        "Size of the study",
        "MNIST and FFHQ; cohort sizes " + NOT_GIVEN,
        "the image, step and instance counts of the tables above; every one is a value in "
        "params.yaml",
    )
    if study.data.source == DRAWN or study.data.name not in PAPER_DATASETS:
        yield Deviation("Dataset", "MNIST and FFHQ", _describe_other_dataset(study))
    if study.report.iterations:
        phis = {study.gans[entry.gans].phi for entry in study.report.iterations} - {0.0}
        yield Deviation(
            "Iterations",
            "five iterations are reported for StyleGAN2 on FFHQ with phi = 0.001; none for MNIST",
            f"the same loss on {describe_dataset(study)}: {len(study.report.iterations)} iterations"
            + (f" with phi = {format_phis(phis)}" if phis else ""),
        )
    yield from _list_architectures(study)


def _describe_other_dataset(study: Study) -> str:
    if study.data.source == DRAWN:
        return (
            f"{describe_dataset(study)}: cartoon faces put together from the parts of a style, "
            "no photographs and not FFHQ. They have flat colours and clean outlines, so what "
            "generators leave in them need not be what they leave in photographs"
        )
    return f"{describe_dataset(study)}, which the paper does not use"


def _list_architectures(study: Study) -> Iterator[Deviation]:
    gans, classifiers = study.gan_recipes.values(), study.classifier_recipes.values()
    used = {recipe.architecture for recipe in (*gans, *classifiers)}
    if used & _SMALL:
        yield Deviation(
            "Architectures",
            _SMALL_NETWORKS + NOT_GIVEN,
            "networks of this repository's own, with the widths of their recipes",
        )
    if used & _LARGE:
        yield Deviation(
            "Architectures of the large networks" if used & _SMALL else "Architectures",
            _LARGE_NETWORKS + NOT_GIVEN,
            f"{_describe_large(study)}; networks of this repository's own after the papers that "
            "describe them, with one logit for a classifier's output and the sizes of their "
            "recipes",
        )
    if own := used - _SMALL - _LARGE:
        yield Deviation(
            "Architectures of this study's own",
            "DCGAN against a CNN; StyleGAN2 against ResNet-50, Inception-v3 and MobileNetV2",
            f"{_name(own, (*gans, *classifiers))}; networks of this study's own, with the sizes "
            "of their recipes",
        )


def _describe_large(study: Study) -> str:
    side = study.data.resolution_px
    size = "" if side is None else f" at {side} px"
    gans = _name(_LARGE, study.gan_recipes.values())
    classifiers = _name(_LARGE, study.classifier_recipes.values())
    return " against ".join(names for names in (gans and gans + size, classifiers) if names)


def _name(architectures: Collection[str], recipes: Iterable[TrainingSettings]) -> str:
    """Name what recipes have of some architectures, separated by commas."""
    found = (recipe for recipe in recipes if recipe.architecture in architectures)
    return ", ".join(dict.fromkeys(describe_architecture(recipe) for recipe in found))


def _list_measurements(study: Study) -> Iterator[Deviation]:
    yield Deviation(
        "Which images classifiers are tested on",
        NOT_GIVEN,
        "each generator is sampled once, and all classifiers score these same images, unshifted; "
        "accuracy on reals and AUC are against the real test split",
    )
    foreign = ""
    is_foreign = study.data.name != LENET_DATASET or study.data.source == DRAWN
    if study.evaluation.extractor == _LENET and is_foreign:
        foreign = (
            f" It has never seen {describe_dataset(study)}: its features and its ten classes "
            "stay those of digits."
        )
    yield Deviation(
        "FID and the other metrics of quality",
        "protocol and feature extractor of FID " + NOT_GIVEN,
        get_extractor(study).protocol + foreign,
    )
    yield Deviation(
        "What ± covers",
        NOT_GIVEN,
        "sample standard deviation (divided by one less than n) over pairs of generator and "
        "classifier",
    )
