"""The sections of params.yaml as frozen types: names, ranges, and nothing else is let in.

A study names cohorts of GANs and cohorts of GAN-classifiers, and pools: ordered lists of frozen
instances that a cohort is trained against. A cohort stands on exactly one pool. Fool-all,
memoryless, multi-instance, the phi sweep and generalisation against n are only different entries.

Recipes and cohorts are in `knowledge_gaps.study.recipes`. How the entries refer to one another is
checked by `knowledge_gaps.study.graph`; what an architecture takes as settings is known by
`knowledge_gaps.models.registry`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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


class StudySettings(Section):
    """Name and seed of the whole study."""

    name: Name
    seed: Annotated[int, Field(ge=0)]


class DataSettings(Section):
    """The dataset of reals.

    Attributes:
        name: the dataset; "mnist" has its checksums in `knowledge_gaps.data.source`, any other
            name is an IDX dataset in `directory` whose checksums are not known beforehand.
        source: "reduced" for the sample in the repository, "idx" for the four IDX files in
            `directory`, "torchvision" for torchvision's downloader into `directory`.
        directory: folder of the IDX files, relative to the repository's root or absolute.
        num_train: how many training images are used, from the start; null for all.
        num_test: how many test images are used, from the start; null for all.
    """

    name: Name
    source: Literal["reduced", "idx", "torchvision"]
    directory: str
    num_train: Count | None = None
    num_test: Count | None = None


class Pool(Section):
    """An ordered list of frozen instances: those of `extends`, then these.

    Attributes:
        extends: the pool that this one continues, or "none".
        cohort: "gans/COHORT" or "classifiers/COHORT".
        instances: which instances of that cohort.
    """

    extends: Name
    cohort: str
    instances: InstanceList

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


# stands where a GAN cohort stands in a table of spectra, for the train split of the reals
REALS_TRAIN = "real_train"

# channels, height, width of the images that an extractor takes
EXTRACTOR_IMAGE_SHAPES = {"lenet": (1, 28, 28)}


class EvaluationSettings(Section):
    """How generators and classifiers are compared.

    Attributes:
        num_images: images sampled once of each generator, and as many reals for quality.
        extractor: features for quality; "lenet" is the package's own for 28 px grey digits.
    """

    num_images: Annotated[int, Field(ge=16)]
    extractor: Literal["lenet"] = "lenet"


class Iteration(Section):
    """One iteration of the paper: a GAN cohort, and the classifier cohort trained on it, if any."""

    gans: Name
    classifiers: Name | None = None


class ClassifierSweep(Section):
    """Classifier cohorts that differ in one thing, looking at one GAN cohort."""

    gans: Name
    classifiers: Annotated[list[Name], Field(min_length=1)]


class ReportSettings(Section):
    """Which readings the report makes of the two tables.

    Attributes:
        iterations: fool-all, iteration 0 first.
        memoryless: iterations of the memoryless form, iteration 0 first.
        memory: iterations with a memory of two or more iterations, iteration 0 first.
        phi_sweep: GAN cohorts that differ in phi.
        multi_instance: GAN cohorts that differ in how many classifiers of a cohort they fool.
        mutual_fooling: GAN cohorts that each fool one classifier, all of one classifier cohort.
        generalisation: classifiers against the number of generators; null for none.
        truncation: classifiers that differ in the truncation of their training latents; null for
            none.
    """

    iterations: list[Iteration] = Field(default_factory=list)
    memoryless: list[Iteration] = Field(default_factory=list)
    memory: list[Iteration] = Field(default_factory=list)
    phi_sweep: list[Name] = Field(default_factory=list)
    multi_instance: list[Name] = Field(default_factory=list)
    mutual_fooling: list[Name] = Field(default_factory=list)
    generalisation: ClassifierSweep | None = None
    truncation: ClassifierSweep | None = None


class Study(Section):
    """Everything that a result of the study depends on; no word about the machine."""

    study: StudySettings
    data: DataSettings
    gan_recipes: dict[Name, GanRecipe]
    classifier_recipes: dict[Name, ClassifierRecipe]
    pools: dict[Name, Pool]
    gans: Annotated[dict[Name, GanCohort], Field(min_length=1)]
    classifiers: Annotated[dict[Name, ClassifierCohort], Field(min_length=1)]
    evaluation: EvaluationSettings
    report: ReportSettings = ReportSettings()
