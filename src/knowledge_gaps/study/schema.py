"""The sections of params.yaml as frozen types: names, ranges, no unknown key.

A study names cohorts of GANs and cohorts of GAN-classifiers, and pools: ordered lists of frozen
instances that a cohort is trained against. A cohort is trained against exactly one pool. Fool-all,
memoryless, multi-instance, the phi sweep and generalisation against n are only different entries.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from knowledge_gaps.study.recipes import (
    NAME,
    ClassifierCohort,
    ClassifierRecipe,
    Count,
    GanCohort,
    GanRecipe,
    InstanceList,
    Kind,
    Name,
    Section,
)

# what stages write; DVC takes no folder that another one's outputs lie in, nor the reverse
_DATA = ("data/attributions", "data/prepared", "data/samples", "data/spectra")
WRITTEN = (*_DATA, "models", "reports")


class StudySettings(Section):
    """Name and seed of the whole study."""

    name: Name
    """What the report and MLflow call the study."""
    seed: Annotated[int, Field(ge=0)]
    """The random numbers of every instance follow from it, the cohort's name, the chain and the
    index."""
    chains: Annotated[int, Field(ge=1, le=1_000)]
    """Independent repetitions of the whole sequence of trainings. Every cohort has its `instances`
    in each chain; they are trained against instances of their own chain alone. Intervals are over
    chains, so one chain has none."""


class DataSettings(Section):
    """The dataset of reals."""

    name: Name
    """The dataset; the report names it. "mnist" has checksums in
    `knowledge_gaps.data.idx`, others what their directory lists."""
    source: Literal["reduced", "idx", "torchvision", "images", "dicebear"]
    """"reduced" for the sample in the repository, "idx" for the four IDX files in `directory`,
    "torchvision" for torchvision's downloader into `directory`, "images" for a folder or a zip
    archive of images, "dicebear" for cartoon faces drawn by seed."""
    directory: str
    """Folder of the files or the archive itself, relative to the repository's root or absolute.
    Drawn faces read nothing from it, but DVC wants it to be there."""
    num_train: Count | None = None
    """Number of training images, from the start; null for all. Drawn faces need a number."""
    num_dev: Count | None = None
    """Number of images of the dev split, which early stopping, thresholds and the choice of recipes
    read, so that tables alone read the test split; null for no dev split. IDX: from the start of
    the pair of files dev-images-idx3-ubyte and dev-labels-idx1-ubyte where `directory` has it, else
    the last images of the training file, which are then no training images. Images and drawn
    faces: those before the test split."""
    num_test: Count | None = None
    """Number of test images, from the start; null for all. Images and drawn faces have no
    split of their own: there the last `num_test` images, in the order of their names, are the
    test split, and a number is needed."""
    resolution_px: Annotated[int, Field(ge=4)] | None = None
    """Side that images are resized to, once, with antialiasing; null keeps theirs. A power of two.
    For "images", and for "dicebear", which needs one."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour images; null for as many as the first image has, and 3 for drawn
    faces. For "images" and "dicebear"."""
    allow_bad: list[str] = Field(default_factory=list)
    """Names of images that may be unreadable and are then left out."""
    style: Name | None = None
    """Which of DiceBear's styles is drawn; needed by "dicebear", and by no other source."""

    @field_validator("directory")
    @classmethod
    def _check_directory(cls, value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError("no path")
        path = PurePosixPath(os.path.normpath(value))
        holds_repository = set(path.parts) <= {".."}
        for written in map(PurePosixPath, WRITTEN):
            if holds_repository or path.is_relative_to(written) or written.is_relative_to(path):
                raise ValueError(f"overlaps with {written}, which stages write")
        return value

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        folder_only = {"resolution_px", "channels", "allow_bad"} & self.model_fields_set
        if self.source not in ("images", "dicebear") and folder_only:
            raise ValueError(f"{sorted(folder_only)[0]} is for source 'images' or 'dicebear'")
        if self.source in ("images", "dicebear") and self.num_test is None:
            raise ValueError(f"num_test is missing, source {self.source!r} has no split of its own")
        if self.resolution_px is not None and self.resolution_px.bit_count() != 1:
            raise ValueError(f"resolution_px is {self.resolution_px}, a power of two is needed")
        if (self.source == "dicebear") != (self.style is not None):
            raise ValueError("style is needed by source 'dicebear', and by no other")
        if self.source == "dicebear" and (self.num_train is None or self.resolution_px is None):
            raise ValueError("num_train and resolution_px are needed by source 'dicebear'")
        return self


class Pool(Section):
    """An ordered list of frozen instances: those of `extends`, then these."""

    extends: Name
    """The pool that this one continues, or "none"."""
    cohort: str
    """"gans/COHORT" or "classifiers/COHORT"."""
    instances: InstanceList
    """Which instances of that cohort, by their index; they are meant in every chain."""

    @property
    def kind(self) -> Kind:
        """Which kind of cohort the pool takes its instances from."""
        return Kind(self.cohort.partition("/")[0])

    @property
    def cohort_name(self) -> str:
        """The cohort's name without its kind."""
        return self.cohort.partition("/")[2]

    @model_validator(mode="after")
    def _check_cohort(self) -> Self:
        kind, slash, name = self.cohort.partition("/")
        if kind not in tuple(Kind) or not slash or not NAME.fullmatch(name):
            raise ValueError(
                f"cohort is {self.cohort!r}, gans/COHORT or classifiers/COHORT is needed"
            )
        if len(set(self.instances)) != len(self.instances):
            raise ValueError(f"instances {self.instances} names one twice")
        return self


# the train split of the reals, in a column of GAN cohorts of a table of spectra
REALS_TRAIN = "real_train"


class EvaluationSettings(Section):
    """How generators and classifiers are compared."""

    num_images: Annotated[int, Field(ge=16)]
    """Images sampled once of each generator, and as many reals for quality."""
    extractor: Name = "lenet"
    """Features for quality; "lenet" is the package's own for MNIST's digits and no other images,
    "lenet_on_reals" one that `prepare` trains on the labelled training reals of IDX files,
    "inception" the Inception of FID for colour images, "random_vgg" an untrained network with fixed
    weights for images of any kind."""
    extractor_weights: str | None = None
    """File of the extractor's weights, relative to the repository's root or absolute, for an
    extractor that takes one; null for its own place. Of those here "inception" does, whose own
    place is the usual cache of torch-fidelity."""
    judges: list[Name] | None = None
    """Detectors that take part in no loss, trained on reals against every pool that classifiers
    detect; null for all in `knowledge_gaps.evaluation.judges`, [] for none."""
    perturbations: list[str] | None = None
    """Changes of reals and generated images alike, such as "jpeg_95", under which classifiers are
    asked again; null for all in `knowledge_gaps.evaluation.perturbations`, [] to leave this out.
    Unchanged images, "none", are always asked too."""
    perturbed_images: Annotated[int, Field(ge=16)] = 1000
    """Images of each generator that are perturbed or changed by a control, the first ones, and as
    many test reals; `num_images` where that is less."""
    controls: list[Name] | None = None
    """What else is done to generated images until classifiers in a loss take them for reals, such
    as "pgd"; null for all in `knowledge_gaps.evaluation.controls`, [] to leave this out. Unchanged
    images, "none", are always asked too."""

    @field_validator("judges", "perturbations", "controls")
    @classmethod
    def _check_names(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names one twice")
        return value

    @property
    def num_perturbed(self) -> int:
        """Images of each set that are perturbed, or changed by a control."""
        return min(self.perturbed_images, self.num_images)

    def __hash__(self) -> int:
        """Hash the content; that of a frozen model would fail for lists."""
        return hash(self.model_dump_json())


class Iteration(Section):
    """One iteration of the paper: a GAN cohort, and the classifier cohort trained on it, if any."""

    gans: Name
    """A key of gans."""
    classifiers: Name | None = None
    """A key of classifiers; null where the iteration ends with its GANs."""


class ClassifierSweep(Section):
    """Classifier cohorts that differ in one thing, detecting one GAN cohort."""

    gans: Name
    """A key of gans."""
    classifiers: Annotated[list[Name], Field(min_length=1)]
    """Keys of classifiers."""


class ArchitecturePair(Section):
    """A classifier cohort of one architecture, and GANs that fool classifiers of it."""

    classifiers: Name
    """A key of classifiers."""
    gans: Name
    """A key of gans."""


class ReportSettings(Section):
    """Which readings the report makes of the two tables."""

    iterations: list[Iteration] = Field(default_factory=list)
    """Fool-all, iteration 0 first."""
    memoryless: list[Iteration] = Field(default_factory=list)
    """Iterations of the memoryless form, iteration 0 first."""
    memory: list[Iteration] = Field(default_factory=list)
    """Iterations with a memory of two or more iterations, iteration 0 first."""
    phi_sweep: list[Name] = Field(default_factory=list)
    """GAN cohorts that differ in phi."""
    multi_instance: list[Name] = Field(default_factory=list)
    """GAN cohorts that differ in how many classifiers of a cohort they fool."""
    mutual_fooling: list[Name] = Field(default_factory=list)
    """GAN cohorts that each fool one classifier, all of one classifier cohort."""
    architectures: list[ArchitecturePair] = Field(default_factory=list)
    """The paper's table A, one entry an architecture of classifiers."""
    generalisation: list[ClassifierSweep] = Field(default_factory=list)
    """Classifiers against the number of generators, one sweep an architecture."""
    truncation: ClassifierSweep | None = None
    """Classifiers that differ in the truncation of their training latents; null for none."""


class Study(Section):
    """Everything that a result of the study depends on; no word about the machine."""

    study: StudySettings
    """Name and seed."""
    data: DataSettings
    """The dataset of reals."""
    gan_recipes: dict[Name, GanRecipe]
    """How GANs are trained."""
    classifier_recipes: dict[Name, ClassifierRecipe]
    """How GAN-classifiers are trained."""
    pools: dict[Name, Pool]
    """Lists of frozen instances that cohorts are trained against."""
    gans: Annotated[dict[Name, GanCohort], Field(min_length=1)]
    """Cohorts of GANs."""
    classifiers: Annotated[dict[Name, ClassifierCohort], Field(min_length=1)]
    """Cohorts of GAN-classifiers."""
    evaluation: EvaluationSettings
    """How all of them are compared."""
    report: ReportSettings
    """Which of them the report reads together."""
