"""Where every file of a study lies below the repository's root."""

from __future__ import annotations

import os
from pathlib import Path

from knowledge_gaps.core.instance import Instance

_EXPERIMENT_VARIABLE = "DVC_EXP_NAME"  # both are set by DVC for the stages of an experiment
_HOME_VARIABLE = "DVC_ROOT"

# below the root
ATTRIBUTIONS = Path("data", "attributions")  # by classifiers, a folder for each set of images
CODE_FINGERPRINTS = Path("models", "fingerprints.json")  # of cohorts and stages, written by `check`
PREPARED = Path("data", "prepared")  # the reals, as `prepare` writes them
SAMPLES = Path("data", "samples")  # of all generators, a folder for each GAN cohort
SPECTRA = Path("data", "spectra")  # likewise, and a folder for each split of the reals

COHORT_FILE = "cohort.json"
META_FILE = "meta.json"
RESULT = "result"  # folder of the finished files of a training
CURVES_FILE = "curves.csv"
GRID_FILE = "samples.png"
GENERATOR_FILE = "generator.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"
CLASSIFIER_FILE = "classifier.safetensors"
TRAIN_IMAGES = "train.npy"
TRAIN_LABELS_FILE = "train_labels.npy"
DEV_IMAGES = "dev.npy"  # where the study has a dev split
DEV_LABELS_FILE = "dev_labels.npy"
TEST_IMAGES = "test.npy"
TEST_LABELS_FILE = "test_labels.npy"
DATASET_FILE = "dataset.json"
DETECTIONS_FILE = "detections.csv"
QUALITY_FILE = "quality.csv"
JUDGES_FILE = "judges.csv"
COHORTS_FILE = "cohorts.csv"
NEIGHBOURS_FILE = "neighbours.csv"
SPECTRA_FILE = "spectra.csv"
ATTRIBUTIONS_FILE = "attributions.csv"
AUDIT_FILE = "audit.csv"
AGREEMENT_FILE = "agreement.csv"
PERTURBATIONS_FILE = "perturbations.csv"
CONTROLS_FILE = "controls.csv"
VERDICTS_FILE = "verdicts.json"
METRICS_FILE = "metrics.json"

RESIDUAL_SPECTRA_FILE = "residual_spectra.npy"
FINGERPRINTS_FILE = "fingerprints.npy"
ATTRIBUTION_INDEX_FILE = "index.json"
ATTRIBUTION_MEANS_FILE = "mean_absolute.npy"
EXAMPLE_IMAGES_FILE = "images.npy"
EXAMPLE_ATTRIBUTIONS_FILE = "attributions.npy"


def get_reports(root: Path, study: str) -> Path:
    """Directory of a study's tables, metrics, figures and page, by the study's name."""
    return root / "reports" / study


def get_cohort_directory(root: Path, cohort: str) -> Path:
    """Directory of a cohort, given as "gans/COHORT" or "classifiers/COHORT"."""
    return root / "models" / cohort


def get_instance_directory(root: Path, cohort: str, instance: Instance) -> Path:
    """Directory of one instance of a cohort, given as "gans/COHORT" or "classifiers/COHORT"."""
    return get_cohort_directory(root, cohort) / str(instance)


def get_pool_file(root: Path, pool: str) -> Path:
    """Manifest of a pool."""
    return root / "models" / "pools" / f"{pool}.json"


def get_samples_file(root: Path, gan_cohort: str, instance: Instance) -> Path:
    """Evaluation images of one generator."""
    return root / SAMPLES / gan_cohort / f"{instance}.npy"


def get_state_directory(root: Path) -> Path:
    """State of this machine that is no result: resume states, cached scores; git-ignored.

    An experiment's own folder is removed after it, so its state is kept in its repository.
    """
    home = get_home(root)
    if home == root:
        return root / ".kgaps"
    return get_experiment_directory(home, os.environ[_EXPERIMENT_VARIABLE])


def get_trainings(root: Path, kind: str, cohort: str) -> Path:
    """Directory of a cohort's trainings, finished ones and those that can be resumed."""
    return get_state_directory(root) / "trainings" / f"{kind}-{cohort}"


def get_experiment_directory(root: Path, experiment: str) -> Path:
    """State of an experiment of DVC, by the experiment's name."""
    return root / ".kgaps" / "experiments" / experiment


def get_home(root: Path) -> Path:
    """The repository that an experiment's folder belongs to; else the root itself."""
    home = os.environ.get(_HOME_VARIABLE)
    if home is None or _EXPERIMENT_VARIABLE not in os.environ:
        return root
    return root if Path(home).resolve() == root.resolve() else Path(home)
