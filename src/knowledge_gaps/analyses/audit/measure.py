"""The shortcut audit: can a classifier tell reals that took the generated images' way from others?

A frozen generator that replays reals takes the place of a GAN in the training of classifiers, for
every recipe of the study, and the reals of the test split take the way of samples through it and
through a file. A classifier that tells them from other reals has found a shortcut in how images
are converted or stored. Controls with a known fault show what the audit would have found.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.analyses.audit.reading import Check, Verdict
from knowledge_gaps.analyses.audit.replay import (
    FAULTS,
    NO_FAULT,
    NUM_LEVELS,
    Images,
    make_replay,
    pass_through,
)
from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.store import hold_images, load_array, open_images
from knowledge_gaps.evaluation.detection import Scores, measure_detection, score_images
from knowledge_gaps.evaluation.samples import list_generators
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.networks import build_classifier
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, adjust_holm, compare_scores
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE, REAL_ACCURACY
from knowledge_gaps.study import ClassifierRecipe, Study
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.initial_weights import load_initial_weights
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.ranks import build_accelerator

AUDIT_INSTANCES = 3  # classifiers of each recipe against the replay as it is
# A shortcut is the same in every image and is learnt early: with the reduced study's recipe and
# 600 steps both controls are found with an area under the ROC curve of at least 0.99.
AUDIT_STEPS = 600
# fewer where the study itself evaluates fewer images than the 4,000 that this was found with
_IMAGES_A_STEP = 4000 / 600
_LEAST_STEPS = 150
_REPLAY_BYTES = 256 << 20  # of a split, whose images are replayed from memory

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One classifier to be trained against the replay.

    Attributes:
        name: of its recipe.
        fault: a key of FAULTS, or "none".
        instance: number among the classifiers of this recipe and fault.
        worker: decides its GPU where there is one.
    """

    name: str
    fault: str
    instance: int
    worker: int = 0

    @property
    def cohort(self) -> str:
        """Name that its random numbers are derived from."""
        return f"audit/{self.name}" if self.fault == NO_FAULT else f"audit/{self.name}/{self.fault}"

    def describe(self, study: Study) -> Row:
        """Return the columns of its row that are known before it is trained."""
        return {
            "check": Check.REPLAY if self.fault == NO_FAULT else Check.CONTROL,
            "subject": self.name,
            "fault": self.fault,
            "instance": self.instance,
            "steps": shorten_recipe(study, self.name).steps,
        }


def list_jobs(study: Study) -> list[Job]:
    """List the classifiers of an audit, recipe by recipe."""
    faults = [(NO_FAULT, instance) for instance in range(AUDIT_INSTANCES)]
    faults += [(fault, 0) for fault in FAULTS]
    names = [(name, *fault) for name in study.classifier_recipes for fault in faults]
    return [Job(*name, worker) for worker, name in enumerate(names)]


def shorten_recipe(study: Study, name: str) -> ClassifierRecipe:
    """Return a recipe with no more steps than an audit takes, all of which are trained."""
    recipe = study.classifier_recipes[name]
    most = max(_LEAST_STEPS, round(study.evaluation.num_images / _IMAGES_A_STEP))
    steps = min(recipe.steps, AUDIT_STEPS, most)
    # there is one generator, and none to be held out
    return recipe.model_copy(update={"steps": steps, "early_stopping": None})


class _NoSession:
    """A `loop.Session` that never stops a training and reports nothing."""

    def is_stopping(self) -> bool:
        return False

    def report(self, step: int, row: dict[str, float] | None) -> None:
        pass


def measure_job(job: Job, root: Path, study: Study) -> Row:
    """Train a classifier of reals against replayed reals and test it on the test split.

    Returns:
        num_images of each half, and the columns of `measure_replay`.

    Raises:
        UserError: when a file of images is missing or altered, or the training diverges.
    """
    seed, recipe = study.study.seed, shorten_recipe(study, job.name)
    reals = load_reals(root, layout.TRAIN_IMAGES)
    accelerator = build_accelerator(
        job.worker, recipe.mixed_precision, recipe.gradient_accumulation_steps
    )
    torch.manual_seed(derive_seed(seed, "weights", job.cohort, job.instance))
    classifier = build_classifier(recipe.architecture, recipe.model, reals.shape[1:])
    load_initial_weights(classifier.network, recipe, root)
    trainer = ClassifierTrainer(
        classifier,
        [make_replay(reals, job.fault)],
        1.0,
        hold_images(reals),
        recipe,
        Stream(seed, job.cohort, job.instance),
        accelerator,
    )
    with tempfile.TemporaryDirectory() as directory:  # short: it starts anew when interrupted
        run_training(trainer, recipe, Path(directory) / "state.safetensors", _NoSession())
    reals = load_reals(root, layout.TEST_IMAGES)
    # two disjoint halves of the test split, the same for every classifier of a study
    order = torch.randperm(len(reals), generator=make_generator(seed, "audit_halves"))
    index_replayed, index_real, *_ = order.split(len(reals) // 2)
    replayed = _replay(reals, index_replayed, accelerator.device, job.fault)
    classifier = freeze(trainer.get_result())
    scores = (score_images(classifier, one) for one in (replayed, reals[index_real.numpy()]))
    return {"num_images": len(replayed), **measure_replay(*scores)}


def load_reals(root: Path, name: str) -> Images:
    """Read as many of a split's first images as may be in memory: all of a set like MNIST."""
    store = open_images(layout.get_prepared_directory(root) / name)
    return store.read(0, max(1, _REPLAY_BYTES // math.prod(store.shape[1:])))


def _replay(images: Images, index: torch.Tensor, device: torch.device, fault: str) -> Images:
    with tempfile.TemporaryDirectory() as directory:
        replay = make_replay(images, fault).to(device)
        return pass_through(replay, index, Path(directory) / "0.npy")


def measure_replay(scores_replayed: Scores, scores_real: Scores) -> dict[str, float]:
    """Measure how well a classifier tells replayed reals from other reals.

    Args:
        scores_replayed: logits float32 [N].
        scores_real: logits float32 [M].

    Returns:
        detection_rate, real_accuracy and auc as `measure_detection`; p_value of an area under the
        ROC curve that differs from chance.

    Raises:
        FloatingPointError: when a score is not finite.
    """
    measured = measure_detection(scores_replayed, scores_real)
    p_value = compare_scores(scores_replayed, scores_real)
    return {key: measured[key] for key in (DETECTION_RATE, REAL_ACCURACY, AUC)} | {
        "p_value": p_value
    }


def judge_classifiers(rows: Sequence[Row]) -> list[Row]:
    """Add p_holm (None for a control) and verdict to the rows of all trained classifiers.

    A replay fails when its p-value, adjusted by Holm's method over all replays, is below
    AUDIT_ALPHA. A control is found when its own p-value is.
    """
    adjusted = iter(adjust_holm([row["p_value"] for row in rows if row["check"] == Check.REPLAY]))
    judged: list[Row] = []
    for row in rows:
        p_holm = None
        if row["check"] == Check.REPLAY:
            p_holm = float(next(adjusted))
            verdict = Verdict.FAIL if p_holm < AUDIT_ALPHA else Verdict.PASS
        else:
            verdict = Verdict.FOUND if row["p_value"] < AUDIT_ALPHA else Verdict.NOT_FOUND
        judged.append({**row, "p_holm": p_holm, "verdict": verdict})
    return judged


def check_exactly(root: Path, study: Study) -> Iterator[Row]:
    """Check round trips of reals, as many as fit, and of every level, and all sample files.

    Yields:
        Rows whose num_defects are changed bytes, or files stored in another way than the reals.
    """
    train = load_reals(root, layout.TRAIN_IMAGES)
    shape = (NUM_LEVELS, *train.shape[1:])
    levels = np.arange(NUM_LEVELS, dtype=np.uint8).reshape(-1, 1, 1, 1)
    # an image of one level changes when it is rescaled by its own range
    sets = {
        "train": train,
        "test": load_reals(root, layout.TEST_IMAGES),
        "levels": np.broadcast_to(levels, shape).copy(),
    }
    for name, images in sets.items():
        returned = _replay(images, torch.arange(len(images)), find_device(), NO_FAULT)
        num_changed = count_changed_bytes(images, returned)
        yield _make_exact_row(Check.ROUND_TRIP, name, len(images), num_changed)
    num_images = study.evaluation.num_images
    files = [layout.get_samples_file(root, *one) for one in list_generators(study)]
    samples = [load_array(file, is_mapped=True) for file in files]
    num_unlike = sum(not is_stored_alike(images, num_images, train) for images in samples)
    yield _make_exact_row(Check.SAMPLE_FILES, "samples", num_images * len(samples), num_unlike)


def _make_exact_row(check: Check, subject: str, num_images: int, num_defects: int) -> Row:
    return {
        "check": check,
        "subject": subject,
        "fault": NO_FAULT,
        "num_images": num_images,
        "num_defects": num_defects,
        "verdict": Verdict.PASS if num_defects == 0 else Verdict.FAIL,
    }


def count_changed_bytes(images: Images, returned: Images) -> int:
    """Count the bytes in which two sets of stored images differ; all when their shapes do."""
    if images.shape != returned.shape:
        return max(images.size, returned.size)
    return int(np.count_nonzero(images != returned))


def is_stored_alike(
    samples: npt.NDArray[np.generic], num_images: int, reals: npt.NDArray[np.generic]
) -> bool:
    """Tell whether sample images are stored as the reals [N, C, H, W] are.

    Returns:
        Whether dtype, shape and order of the bytes are the same, and all values lie between the
        reals' lowest and highest.
    """
    is_same_form = (
        samples.dtype == reals.dtype
        and samples.shape == (num_images, *reals.shape[1:])
        and samples.flags.c_contiguous == reals.flags.c_contiguous
    )
    return bool(is_same_form and reals.min() <= samples.min() and samples.max() <= reals.max())
