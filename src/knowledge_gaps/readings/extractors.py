"""What the features of quality are, in words for a reader."""

from __future__ import annotations

from typing import NamedTuple

from knowledge_gaps.study import Study


class Classes(NamedTuple):
    """The classes that an extractor tells apart: whose they are, and how many."""

    words: str
    num: int


class Extractor(NamedTuple):
    """An extractor: what its distance may be compared with, and None without class entropy."""

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


def describe_extractor(study: Study) -> Extractor:
    """Return the words for the study's extractor; plain ones for an extractor that has none."""
    name = study.evaluation.extractor
    plain = Extractor(name, f"features of the extractor {name}, against the real test split.")
    return _EXTRACTORS.get(name, plain)
