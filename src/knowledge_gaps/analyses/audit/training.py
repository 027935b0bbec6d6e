"""Classifiers of reals against replayed reals, one at a time, for the stage audit.

Which ones are trained, and what follows from them, is known by `knowledge_gaps.stages.audit`; what
a replay is, by `knowledge_gaps.analyses.audit.replay`.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from knowledge_gaps.analyses.audit.measure import (
    CHECK,
    NO_FAULT,
    Check,
    measure_replay,
)
from knowledge_gaps.analyses.audit.replay import (
    FAULTS,
    Images,
    ReplayGenerator,
    draw_halves,
)
from knowledge_gaps.core.cache import Row
from knowledge_gaps.core.layout import (
    TEST_IMAGES,
    TRAIN_IMAGES,
    get_prepared_directory,
)
from knowledge_gaps.core.seeding import derive_seed
from knowledge_gaps.data.images import load_images, save_batches
from knowledge_gaps.data.store import hold_images, open_images
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.evaluation.detection import (
    score_images,
)
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import classifier_architectures, parse_settings
from knowledge_gaps.study import ClassifierRecipe
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.batches import Stream, sample_images
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.initial_weights import load_initial_weights
from knowledge_gaps.training.loop import run_training

_REPLAY_BYTES = 256 << 20  # of a split, whose images are replayed from memory


@dataclass(frozen=True)
class Job:
    """One classifier to be trained against the replay and asked about it.

    Attributes:
        root: of the study.
        seed: of the study.
        name: of the recipe.
        recipe: with no more steps than an audit takes, all of which are trained.
        fault: a key of FAULTS, or "none".
        instance: number among the classifiers of this recipe and fault.
        worker: decides its GPU where there is one.
    """

    root: Path
    seed: int
    name: str
    recipe: ClassifierRecipe
    fault: str
    instance: int
    worker: int = 0

    @property
    def cohort(self) -> str:
        """What tells this classifier's random numbers from others'."""
        return f"audit/{self.name}" if self.fault == NO_FAULT else f"audit/{self.name}/{self.fault}"

    def describe(self) -> Row:
        """Return the part of its row that is known beforehand."""
        return {
            CHECK: Check.REPLAY if self.fault == NO_FAULT else Check.CONTROL,
            "subject": self.name,
            "fault": self.fault,
            "instance": self.instance,
            "steps": self.recipe.steps,
        }


class _NoSession:
    """A `loop.Session` that never stops a training and tells nobody of it."""

    def is_stopping(self) -> bool:
        return False

    def report(self, step: int, row: dict[str, float] | None) -> None:
        pass


def run_job(job: Job) -> Row:
    """Train a classifier of reals against replayed reals and ask it about the test split."""
    reals = load_reals(job.root, TRAIN_IMAGES)
    accelerator = build_accelerator(
        job.worker, job.recipe.mixed_precision, job.recipe.gradient_accumulation_steps
    )
    torch.manual_seed(derive_seed(job.seed, "weights", job.cohort, job.instance))
    trainer = ClassifierTrainer(
        _build_classifier(job, reals),
        [make_replay(reals, job.fault)],
        1.0,
        hold_images(reals),
        job.recipe,
        Stream(job.seed, job.cohort, job.instance),
        accelerator,
    )
    with tempfile.TemporaryDirectory() as directory:  # short: it starts anew when interrupted
        run_training(trainer, job.recipe, Path(directory) / "state.safetensors", _NoSession())
    return _ask(freeze(trainer.get_result()), job)


def load_reals(root: Path, name: str) -> Images:
    """Read as many of a split's first images as may be in memory: all of a set like MNIST."""
    store = open_images(get_prepared_directory(root) / name)
    return store.read(0, max(1, _REPLAY_BYTES // math.prod(store.shape[1:])))


def make_replay(images: Images, fault: str) -> ReplayGenerator:
    """Make a frozen generator that replays images, uint8 [N, C, H, W], with a fault or "none"."""
    replayed = images if fault == NO_FAULT else FAULTS[fault](images)
    return freeze(ReplayGenerator(torch.from_numpy(replayed)))


def pass_through(replay: ReplayGenerator, index: Tensor, path: Path) -> Images:
    """Send images the way of the generated ones: generator, uint8, file.

    Args:
        replay: frozen, on the device that samples are made on.
        index: int64 [N], which of its images.
        path: of the file that they are stored in.

    Returns:
        uint8 [N, C, H, W], as read from the file.
    """
    images = next(replay.buffers())
    latents = replay.encode(index).to(images.device)
    batches = latents.split(count_sampled(images.shape[1:]))
    samples = (sample_images(replay, batch).cpu().numpy() for batch in batches)
    save_batches(path, len(index), samples)
    return load_images(path)


def _build_classifier(job: Job, reals: Images) -> GanClassifier:
    architecture = classifier_architectures.get(job.recipe.architecture)
    settings = parse_settings(architecture, job.recipe.model)
    _, channels, height, width = reals.shape
    spec = architecture.make_input_spec(settings, (channels, height, width))
    network = architecture.build(settings, spec.input_shape)
    load_initial_weights(network, job.recipe, job.root)
    return GanClassifier(network, spec)


def _ask(classifier: GanClassifier, job: Job) -> Row:
    reals = load_reals(job.root, TEST_IMAGES)
    index_replayed, index_real = draw_halves(len(reals), job.seed)
    replay = make_replay(reals, job.fault).to(next(classifier.parameters()).device)
    with tempfile.TemporaryDirectory() as directory:
        replayed = pass_through(replay, index_replayed, Path(directory) / "0.npy")
    scores = score_images(classifier, replayed)
    scores_real = score_images(classifier, reals[index_real.numpy()])
    return {"num_images": len(replayed), **measure_replay(scores, scores_real)}
