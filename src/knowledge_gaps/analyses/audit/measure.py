"""The shortcut audit: can a classifier tell reals that took the generated images' way from others?

A frozen generator that replays reals takes the place of a GAN in the training of classifiers, for
every recipe of the study. A classifier that tells test reals that went through it and through a
file from other reals has found a shortcut in how images are converted or stored. Controls with a
known fault show what the audit would have found.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowledge_gaps.analyses.audit.reading import NO_FAULT, Check, Verdict
from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.instance import FIRST_CHAIN, Instance
from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.images import save_batches, to_float
from knowledge_gaps.data.store import Images, load_array, open_images
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.evaluation.detection import measure_detection, score_images
from knowledge_gaps.evaluation.perturbations.jpeg import compress
from knowledge_gaps.execution.parallel import WORKER
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.networks import build_classifier
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, adjust_holm, compare_scores
from knowledge_gaps.study import ClassifierRecipe, Study
from knowledge_gaps.study.graph import list_generators
from knowledge_gaps.training.batches import Stream, sample_images
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.initial_weights import load_initial_weights
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.task import Session

AUDIT_INSTANCES = 3  # classifiers of each recipe against the replay as it is
# A shortcut is the same in every image and is learnt early: with the reduced study's recipe and
# 600 steps both controls are found with an area under the ROC curve of at least 0.99.
AUDIT_STEPS = 600
# fewer where the study itself evaluates fewer images than the 4,000 that this was found with
_IMAGES_A_STEP = 4000 / 600
_LEAST_STEPS = 150
_REPLAY_BYTES = 256 << 20  # of a split, whose images are replayed from memory
_NUM_LEVELS = 256
_JPEG_QUALITY = 95
_MAX_OFFSET = 0.49  # of a level: rounding to the nearest one removes it
_HALF_RANGE = 127.5  # levels in half of [-1, 1]
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, cover [0, 1) evenly

Row = dict[str, Any]


class ReplayGenerator(Generator):
    """A generator whose images are stored reals, off the stored levels as a network's output is.

    The first latent chooses the image, all equally likely; the second one shifts all of its values
    by less than half a level, so that only a conversion that rounds to the nearest level returns
    the stored image.
    """

    latent_dim = 2
    _images: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.register_buffer("_images", images, persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] in [-1, 1] of latents [N, 2], standard normal."""
        shares: Tensor = torch.special.ndtr(latents.double())  # uniform in [0, 1]
        index = (shares[:, 0] * len(self._images)).long().clamp_(max=len(self._images) - 1)
        offsets = (2 * shares[:, 1] - 1) * (_MAX_OFFSET / _HALF_RANGE)
        images = to_float(self._images[index]) + offsets.float()[:, None, None, None]
        return images.clamp_(-1, 1)

    def encode(self, index: Tensor) -> Tensor:
        """Return latents float32 [N, 2] whose images are those at index, int64 [N]."""
        shares = torch.stack([(index + 0.5) / len(self._images), (index * _GOLDEN + 0.5) % 1], 1)
        latents: Tensor = torch.special.ndtri(shares.double()).float()
        return latents


def shift_levels(images: Images) -> Images:
    """Add one level to every value below the highest, as a wrong rounding would."""
    return np.minimum(images, _NUM_LEVELS - 2) + np.uint8(1)


def compress_images(images: Images) -> Images:
    """Store every image [C, H, W], of 1 or 3 channels, as a JPEG of high quality and read it."""
    return compress(images, quality=_JPEG_QUALITY)


# known shortcuts, put into the replay to show that the audit finds them
FAULTS: dict[str, Callable[[Images], Images]] = {"one_level": shift_levels, "jpeg": compress_images}


def make_replay(images: Images, fault: str = NO_FAULT) -> ReplayGenerator:
    """Make a frozen generator that replays images, uint8 [N, C, H, W], with a fault or "none"."""
    replayed = images if fault == NO_FAULT else FAULTS[fault](images)
    return freeze(ReplayGenerator(torch.from_numpy(replayed)))


def pass_through(
    images: Images, index: Tensor, device: torch.device, fault: str = NO_FAULT
) -> Images:
    """Send the images at index, int64 [N], the way of generated ones: generator, uint8, file."""
    replay = make_replay(images, fault).to(device)
    batches = replay.encode(index).to(device).split(count_sampled(images.shape[1:]))
    samples = (sample_images(replay, batch).cpu().numpy() for batch in batches)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0.npy"
        save_batches(path, len(index), samples)
        return np.array(open_images(path))


class Job(NamedTuple):
    """A classifier to be trained against the replay."""

    check: Check
    subject: str  # its recipe
    fault: str
    instance: int  # among the classifiers of this recipe and fault

    @property
    def cohort(self) -> str:
        """Name that its random numbers are derived from."""
        name = f"audit/{self.subject}"
        return name if self.fault == NO_FAULT else f"{name}/{self.fault}"


def list_jobs(study: Study) -> list[Job]:
    """List the classifiers of an audit, recipe by recipe."""
    kinds = [(Check.REPLAY, NO_FAULT, instance) for instance in range(AUDIT_INSTANCES)]
    kinds += [(Check.CONTROL, fault, 0) for fault in FAULTS]
    recipes = study.classifier_recipes
    names = [name for name in recipes if not recipes[name].shuffled_labels]  # would find no fault
    return [Job(check, name, fault, number) for name in names for check, fault, number in kinds]


def shorten_recipe(study: Study, name: str) -> ClassifierRecipe:
    """Return a recipe with no more steps than an audit takes, all of which are trained."""
    recipe = study.classifier_recipes[name]
    most = max(_LEAST_STEPS, round(study.evaluation.num_images / _IMAGES_A_STEP))
    steps = min(recipe.steps, AUDIT_STEPS, most)
    # there is one generator, and none to be held out
    return recipe.model_copy(update={"steps": steps, "early_stopping": None})


def measure_job(job: Job, root: Path, study: Study) -> Row:
    """Train a classifier of reals against replayed reals and test it on halves of the test split.

    Returns its row, without what `judge_classifiers` adds. Raises UserError when a file of images
    is missing or altered, or the training diverges.
    """
    seed, recipe = study.study.seed, shorten_recipe(study, job.subject)
    reals = _load_reals(root, layout.TRAIN_IMAGES)
    torch.manual_seed(derive_seed(seed, "weights", job.cohort, job.instance))
    classifier = build_classifier(recipe.architecture, recipe.model, reals.shape[1:])
    load_initial_weights(classifier.network, recipe, root)
    replay = make_replay(reals, job.fault)
    stream = Stream(seed, job.cohort, Instance(FIRST_CHAIN, job.instance))
    trainer = ClassifierTrainer(classifier, [replay], 1.0, reals, recipe, stream, WORKER.index)
    with tempfile.TemporaryDirectory() as directory:  # short: it starts anew when interrupted
        run_training(trainer, Path(directory) / "state.safetensors", Session())
    reals = _load_reals(root, layout.TEST_IMAGES)
    # two disjoint halves of the test split, the same for every classifier of a study
    order = torch.randperm(len(reals), generator=make_generator(seed, "audit_halves"))
    index_replayed, index_real, *_ = order.split(len(reals) // 2)
    replayed = pass_through(reals, index_replayed, trainer.accelerator.device, job.fault)
    trained = freeze(trainer.get_result())
    scores = [score_images(trained, one) for one in (replayed, reals[index_real.numpy()])]
    return {
        **job._asdict(),
        "steps": recipe.steps,
        "num_images": len(replayed),
        **measure_detection(*scores),
        "p_value": compare_scores(*scores),
    }


def _load_reals(root: Path, name: str) -> Images:
    """Read as many of a split's first images as may be in memory: all of a set like MNIST."""
    images = open_images(root / layout.PREPARED / name)
    return np.array(images[: max(1, _REPLAY_BYTES // math.prod(images.shape[1:]))])


def judge_classifiers(rows: Sequence[Row]) -> list[Row]:
    """Add p_holm (None for a control) and verdict to the rows of all trained classifiers.

    A replay fails when its p-value, adjusted by Holm's method over all replays, is below
    AUDIT_ALPHA. A control is found when its own p-value is.
    """
    adjusted = iter(adjust_holm([row["p_value"] for row in rows if row["check"] == Check.REPLAY]))
    judged: list[Row] = []
    for row in rows:
        if row["check"] == Check.REPLAY:
            p_holm = float(next(adjusted))
            verdict = Verdict.FAIL if p_holm < AUDIT_ALPHA else Verdict.PASS
        else:
            p_holm = None
            verdict = Verdict.FOUND if row["p_value"] < AUDIT_ALPHA else Verdict.NOT_FOUND
        judged.append({**row, "p_holm": p_holm, "verdict": verdict})
    return judged


def check_exactly(root: Path, study: Study) -> Iterator[Row]:
    """Check round trips of reals, as many as fit, and of every level, and all sample files.

    The num_defects of a row are changed bytes, or files stored in another way than the reals.
    """
    train = _load_reals(root, layout.TRAIN_IMAGES)
    # an image of one level changes when it is rescaled by its own range
    levels = np.repeat(np.arange(_NUM_LEVELS, dtype=np.uint8), train[0].size)
    sets = {
        "train": train,
        "test": _load_reals(root, layout.TEST_IMAGES),
        "levels": levels.reshape(-1, *train.shape[1:]),
    }
    for name, images in sets.items():
        returned = pass_through(images, torch.arange(len(images)), find_device())
        yield _make_row(Check.ROUND_TRIP, name, len(images), (images != returned).sum())
    num_images = study.evaluation.num_images
    files = [layout.get_samples_file(root, *one) for one in list_generators(study)]
    samples = (load_array(file, is_mapped=True) for file in files)
    num_unlike = sum(not is_stored_alike(images, num_images, train) for images in samples)
    yield _make_row(Check.SAMPLE_FILES, "samples", num_images * len(files), num_unlike)


def _make_row(check: Check, subject: str, num_images: int, num_defects: int) -> Row:
    verdict = Verdict.PASS if num_defects == 0 else Verdict.FAIL
    counts = {"num_images": num_images, "num_defects": num_defects}
    return {"check": check, "subject": subject, "fault": NO_FAULT, **counts, "verdict": verdict}


def is_stored_alike(
    samples: npt.NDArray[np.generic], num_images: int, reals: npt.NDArray[np.generic]
) -> bool:
    """Tell whether sample images have the form of the reals [N, C, H, W], and no value beyond."""
    return bool(
        samples.dtype == reals.dtype
        and samples.shape == (num_images, *reals.shape[1:])
        and samples.flags.c_contiguous == reals.flags.c_contiguous
        and reals.min() <= samples.min()
        and samples.max() <= reals.max()
    )
