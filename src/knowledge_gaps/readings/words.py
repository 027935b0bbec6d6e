"""What a study is of, in words for a reader: dataset, architectures, extractor.

The names follow from the study alone, so that no text says "digits" of faces or "FID" of another
distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.study import Study, TrainingSettings

STYLEGAN2 = "stylegan2"
DRAWN = "dicebear"  # the source of drawn faces
WIDTH_KEY = "width_divisor"  # of the settings of a width-reduced classifier


@dataclass(frozen=True)
class Classes:
    """The classes that an extractor tells apart: whose they are, and how many."""

    words: str
    num: int


@dataclass(frozen=True)
class Extractor:
    """What the features of quality are.

    Attributes:
        title: its short name.
        protocol: what the features are and what their distance may be compared with.
        classes: None for an extractor without, which has no class entropy either.
    """

    title: str
    protocol: str
    classes: Classes | None = None


_EXTRACTORS = {
    "lenet": Extractor(
        "LeNet",
        "features of a small LeNet trained on MNIST digits and kept in the package (wider than "
        "LeNet-5, with ReLU and max pooling), against the real test split. Its scale is not that "
        "of Inception FID.",
        Classes("the LeNet's ten classes", 10),
    ),
    "inception": Extractor(
        "Inception",
        "features of the Inception network that FID is defined by, as torch-fidelity ports it, "
        "against the real test split; images are resized to 299 px by the network itself. The "
        "level depends on the number of images and on how the reals were resized.",
        Classes("the Inception's 1,008 classes", 1008),
    ),
    "random_vgg": Extractor(
        "untrained VGG",
        "a Fréchet distance, which is not FID, in features of a VGG-16 at a quarter of its width "
        "that was never trained, its weights drawn once and kept fixed, against the real test "
        "split. Its scale is its own. It tells no classes apart, so there is no class entropy and "
        "no count of missing classes.",
    ),
}


def get_extractor(study: Study) -> Extractor:
    """Return the words for the study's extractor; plain ones for an extractor that has none."""
    name = study.evaluation.extractor
    plain = Extractor(name, f"features of the extractor {name}, against the real test split.")
    return _EXTRACTORS.get(name, plain)


def describe_dataset(study: Study) -> str:
    """Name the dataset; drawn faces are named as such, whatever the study calls them."""
    if study.data.source == DRAWN:
        return f"drawn faces (DiceBear, style {study.data.style})"
    return format_title(study.data.name)


def describe_architecture(recipe: TrainingSettings) -> str:
    """Name the architecture of a recipe, such as "ResNet-50 at 1/8 width"."""
    title, divisor = format_title(recipe.architecture), recipe.model.get(WIDTH_KEY, 1)
    return title if divisor == 1 else f"{title} at 1/{divisor} width"


def describe_classifiers(study: Study, cohort: str) -> str:
    """Name the architecture of a classifier cohort."""
    return describe_architecture(study.classifier_recipes[study.classifiers[cohort].recipe])


def list_architectures(recipes: Mapping[str, TrainingSettings]) -> str:
    """Name the architectures of recipes, separated by commas."""
    return ", ".join(dict.fromkeys(describe_architecture(each) for each in recipes.values()))


def has_styles(study: Study) -> bool:
    """Say whether a recipe of GANs is of StyleGAN2."""
    return any(recipe.architecture == STYLEGAN2 for recipe in study.gan_recipes.values())
