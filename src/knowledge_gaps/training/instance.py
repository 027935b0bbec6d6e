"""One instance from its task to its result files; runs in a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from knowledge_gaps import __version__
from knowledge_gaps.core import layout
from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, write_json, write_text
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.seeding import derive_seed
from knowledge_gaps.data.images import save_grid
from knowledge_gaps.data.store import open_images
from knowledge_gaps.models.frozen import FORMAT, freeze, load_classifier, load_generator
from knowledge_gaps.models.networks import build_classifier, build_discriminator, build_generator
from knowledge_gaps.study import ClassifierCohort, GanCohort, GanRecipe
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer
from knowledge_gaps.training.initial_weights import load_initial_weights
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.state import Curves
from knowledge_gaps.training.task import Session, TrainingTask

_GRID_IMAGES = 64
_RECORDED_VERSIONS = ("torch", "accelerate", "safetensors")
_CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError of torch


def train_instance(
    task: TrainingTask, worker: int, directory: Path, state_file: Path, session: Session
) -> None:
    """Train one instance and write its result files; all ranks together where there are several.

    meta.json is written last and makes the directory a result. Raises as `run_training`, and
    UserError.
    """
    with explain_shortage(task.recipe.batch_size):
        trainer = build_trainer(task, worker)
        curves, steps = run_training(trainer, state_file, session)
        if trainer.ranks.is_main:
            write_result(task, trainer, curves, steps, directory)


@contextmanager
def explain_shortage(batch_size: int) -> Iterator[None]:
    """Turn torch's running out of memory into a UserError in the recipe's words."""
    try:
        yield
    except RuntimeError as error:
        is_of_gpu = isinstance(error, torch.OutOfMemoryError)
        if not is_of_gpu and _CPU_MESSAGE not in str(error):
            raise
        place = "a GPU" if is_of_gpu else "this machine"
        raise UserError(
            f"batch_size: {batch_size} images do not fit into the memory of {place}; half of them "
            "with twice the gradient_accumulation_steps are as many an update"
        ) from error


def build_trainer(task: TrainingTask, worker: int = 0) -> GanTrainer | ClassifierTrainer:
    """Build the trainer of a task, with fresh weights, which are drawn after those of its pool."""
    torch.manual_seed(derive_seed(task.seed, "weights", task.cohort_path, str(task.instance)))
    prepared = task.root / layout.PREPARED
    images = open_images(prepared / layout.TRAIN_IMAGES)
    own = (task.recipe.architecture, task.recipe.model, images.shape[1:])
    pool = [(member.get_directory(task.root), member.sha256) for member in task.members]
    stream = Stream(task.seed, task.cohort_path, task.instance)
    if isinstance(task.recipe, GanRecipe):
        assert isinstance(task.cohort, GanCohort)
        classifiers = [load_classifier(*member) for member in pool]
        fooling = Fooling(classifiers, task.cohort.phi, task.cohort.fooling)
        networks = build_generator(*own), build_discriminator(*own)
        return GanTrainer(*networks, fooling, images, task.recipe, stream, worker)
    assert isinstance(task.cohort, ClassifierCohort)
    generators, truncation = [load_generator(*member) for member in pool], task.cohort.truncation
    classifier = build_classifier(*own)
    sha256 = load_initial_weights(classifier.network, task.recipe, task.root)
    if sha256 != task.initial_weights_sha256:
        raise UserError("initial_weights: the file changed since this command was started")
    dev = None if task.dev_sha256 is None else open_images(prepared / layout.DEV_IMAGES)
    return ClassifierTrainer(
        classifier, generators, truncation, images, task.recipe, stream, worker, dev
    )


def write_result(
    task: TrainingTask,
    trainer: GanTrainer | ClassifierTrainer,
    curves: Curves,
    steps: int,
    directory: Path,
) -> None:
    """Write the files of an instance after its last step, meta.json last."""
    result, recipe = trainer.get_result(), task.recipe
    described: dict[str, Any] = {"weights": layout.GENERATOR_FILE}
    if isinstance(trainer, GanTrainer):
        discriminator = trainer.modules["discriminator"].state_dict()
        write_tensors(directory / layout.DISCRIMINATOR_FILE, discriminator)
        _save_samples(trainer, directory / layout.GRID_FILE)
    else:
        spec = trainer.get_result().spec.model_dump(mode="json")
        described = {"weights": layout.CLASSIFIER_FILE, "input_spec": spec}
    write_tensors(directory / described["weights"], result.state_dict())
    write_text(directory / layout.CURVES_FILE, curves.to_csv())
    files = sorted(path for path in directory.iterdir() if path.name != layout.META_FILE)
    meta = {
        "format": FORMAT,
        "kind": task.kind.value,
        "cohort": task.name,
        "chain": task.instance.chain,
        "instance": task.instance.number,
        "identity": task.compute_identity(),
        **task.describe(),
        "steps_done": steps,
        "images_seen": steps * recipe.batch_size * recipe.gradient_accumulation_steps,
        "image_shape": list(trainer.images.shape[1:]),
        "versions": {**get_versions(_RECORDED_VERSIONS), "knowledge-gaps": __version__},
        "files": {path.name: hash_file(path) for path in files},
        **described,
    }
    write_json(directory / layout.META_FILE, meta)


def _save_samples(trainer: GanTrainer, path: Path) -> None:
    generator, device = trainer.get_result(), trainer.accelerator.device
    latents = draw_latents(trainer.stream, _GRID_IMAGES, generator.latent_dim, "grid").to(device)
    trainer.stream.seed_layers("grid", device)
    # a rank's batch fits into the memory
    batches = latents.split(trainer.recipe.batch_size // trainer.ranks.size)
    images = torch.cat([sample_images(freeze(generator), batch) for batch in batches])
    save_grid(path, images.cpu().numpy())
