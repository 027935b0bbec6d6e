"""What a study is of, in words for a reader: dataset, architectures, extractor.

The names follow from the study alone, so that no text says "digits" of faces or "FID" of another
distance. Numbers are written by `knowledge_gaps.readings.formats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from knowledge_gaps.findings.schema import PilotSetting
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.study import Study, TrainingSettings

CNN = "cnn"
DCGAN = "dcgan"
STYLEGAN2 = "stylegan2"
DRAWN = "dicebear"  # the source of drawn faces
LENET_DATASET = "mnist"  # what the packaged LeNet was trained on
PAPER_DATASETS = ("mnist", "ffhq")
_WIDTH_KEY = "width_divisor"  # of the settings of a width-reduced classifier


@dataclass(frozen=True)
class Classes:
    """The classes that an extractor tells apart.

    Attributes:
        words: whose they are, and how many.
        num: how many.
    """

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
    classes: Classes | None


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
        None,
    ),
}


@dataclass(frozen=True)
class Setting:
    """A study's setting in the words of its page.

    Attributes:
        dataset: its name.
        gans: architectures of the GANs.
        classifiers: architectures of the classifiers.
        architectures: of each classifier cohort.
        distance: how the Frechet distance is called.
        scales: how it stands to the paper's.
        is_drawn: the reals are drawn faces.
        is_varied: there are classifiers of several architectures.
        is_reduced: a classifier has fewer channels than the network that it is named after.
        is_stylegan2: a GAN has styles.
    """

    dataset: str
    gans: str
    classifiers: str
    architectures: Mapping[str, str]
    distance: str
    scales: str
    is_drawn: bool
    is_varied: bool
    is_reduced: bool
    is_stylegan2: bool


def make_setting(study: Study, distance: str) -> Setting:
    """Put the setting of a study into words.

    Args:
        study: what was run.
        distance: as from `formats.format_distance`.
    """
    architectures = {name: describe_classifiers(study, name) for name in study.classifiers}
    scales = "the two FIDs are on different scales"
    if distance != "FID":
        scales = f"its FID and the {distance} here are different measures"
    return Setting(
        dataset=describe_dataset(study),
        gans=list_gans(study),
        classifiers=list_classifiers(study),
        architectures=architectures,
        distance=distance,
        scales=scales,
        is_drawn=study.data.source == DRAWN,
        is_varied=len(set(architectures.values())) > 1,
        is_reduced=any(
            recipe.model.get(_WIDTH_KEY, 1) != 1 for recipe in study.classifier_recipes.values()
        ),
        is_stylegan2=has_gan(study, STYLEGAN2),
    )


def describe_dataset(study: Study) -> str:
    """Name the dataset; drawn faces are named as such, whatever the study calls them."""
    if study.data.source == DRAWN:
        return f"drawn faces (DiceBear, style {study.data.style})"
    return format_title(study.data.name)


def describe_reals(study: Study) -> str:
    """Say what the images are that networks are trained on."""
    if study.data.source == DRAWN:
        return f"The reals of this study, {describe_dataset(study)}"
    return f"Real images of {describe_dataset(study)}"


def describe_architecture(recipe: TrainingSettings) -> str:
    """Name the architecture of a recipe, such as "ResNet-50 at 1/8 width"."""
    title, divisor = format_title(recipe.architecture), recipe.model.get(_WIDTH_KEY, 1)
    return title if divisor == 1 else f"{title} at 1/{divisor} width"


def describe_classifiers(study: Study, cohort: str) -> str:
    """Name the architecture of a classifier cohort."""
    return describe_architecture(study.classifier_recipes[study.classifiers[cohort].recipe])


def list_gans(study: Study) -> str:
    """Name the architectures of all GAN recipes, separated by commas."""
    return _join(describe_architecture(recipe) for recipe in study.gan_recipes.values())


def list_classifiers(study: Study) -> str:
    """Name the architectures of all classifier recipes, separated by commas."""
    return _join(describe_architecture(recipe) for recipe in study.classifier_recipes.values())


def describe_truncation(study: Study) -> str:
    """Say what a truncation is a factor of: distances from the mean style, or the latents."""
    if has_gan(study, STYLEGAN2):
        return "psi, share of the styles' distance from their mean,"
    return "standard deviation of the latents"


def has_gan(study: Study, architecture: str) -> bool:
    """Say whether a recipe of GANs has an architecture."""
    return any(recipe.architecture == architecture for recipe in study.gan_recipes.values())


def get_extractor(study: Study) -> Extractor:
    """Return what is known of the study's extractor of features."""
    return _EXTRACTORS[study.evaluation.extractor]


def describe_foreign_pilot(study: Study, pilot: PilotSetting) -> str:
    """Say that thresholds come from another setting than the study's; empty where they do not."""
    gans = {recipe.architecture for recipe in study.gan_recipes.values()}
    classifiers = {recipe.architecture for recipe in study.classifier_recipes.values()}
    is_same = gans == {pilot.gan} and classifiers == {pilot.classifier}
    if is_same and study.data.name == pilot.dataset and study.data.source != DRAWN:
        return ""
    return (
        f"The margins are borrowed from another setting: the pilot was of "
        f"{format_title(pilot.gan)} against {format_title(pilot.classifier)} on "
        f"{format_title(pilot.dataset)}, this study is of {list_gans(study)} against "
        f"{list_classifiers(study)} on {describe_dataset(study)}. How far instances of this "
        "setting lie apart was not measured beforehand, so a margin is a fixed size here and "
        "not what chance between these instances amounts to."
    )


def _join(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
