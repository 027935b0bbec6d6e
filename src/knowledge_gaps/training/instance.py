"""One instance from its task to its result files; runs in a worker process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, write_json, write_text
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import (
    CLASSIFIER_FILE,
    CURVES_FILE,
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    GRID_FILE,
    META_FILE,
    TRAIN_IMAGES,
    get_prepared_directory,
)
from knowledge_gaps.core.seeding import derive_seed
from knowledge_gaps.data.images import save_grid
from knowledge_gaps.data.store import ImageStore, open_images
from knowledge_gaps.models.frozen import FORMAT, freeze, load_classifier, load_generator
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import (
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.study import ClassifierCohort, ClassifierRecipe, GanCohort, GanRecipe
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.curves import Curves
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.initial_weights import load_initial_weights
from knowledge_gaps.training.loop import Session, run_training
from knowledge_gaps.training.memory import explain_shortage
from knowledge_gaps.training.phases import Fooling
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.task import TrainingTask

if TYPE_CHECKING:
    from accelerate import Accelerator

_GRID_IMAGES = 64
_RECORDED_VERSIONS = ("torch", "accelerate", "safetensors", "knowledge-gaps")


def train_instance(
    task: TrainingTask, worker: int, directory: Path, state_file: Path, session: Session
) -> None:
    """Train one instance and write its result files; all ranks together where there are several.

    Args:
        task: what to train.
        worker: index of this worker process.
        directory: of the result files; meta.json is written last and makes them a result.
        state_file: where the resume state is kept while training.
        session: asked for stopping and told of progress.

    Raises:
        StoppedError: when the session stopped it, after its state was saved.
        UserError: for bad input, a full disk, too little memory or a loss that is not finite.
    """
    recipe = task.recipe
    accelerator = build_accelerator(
        worker, recipe.mixed_precision, recipe.gradient_accumulation_steps
    )
    ranks = Ranks.of(accelerator)
    with explain_shortage(recipe, ranks, accelerator.device):
        trainer = ranks.run_everywhere(partial(build_trainer, task, accelerator))
        curves, steps = run_training(trainer, recipe, state_file, session)
        ranks.run_on_main(partial(write_result, task, trainer, curves, steps, directory))


def build_trainer(task: TrainingTask, accelerator: Accelerator) -> GanTrainer | ClassifierTrainer:
    """Build the trainer of a task, with fresh weights."""
    torch.manual_seed(derive_seed(task.seed, "weights", task.cohort_path, task.instance))
    if isinstance(task.recipe, GanRecipe):
        return _build_gan_trainer(task, task.recipe, accelerator)
    return _build_classifier_trainer(task, task.recipe, accelerator)


def _build_gan_trainer(
    task: TrainingTask, recipe: GanRecipe, accelerator: Accelerator
) -> GanTrainer:
    assert isinstance(task.cohort, GanCohort)
    images = _open_reals(task)
    architecture = gan_architectures.get(recipe.architecture)
    settings = parse_settings(architecture, recipe.model)
    classifiers = [
        load_classifier(member.get_directory(task.root), member.sha256) for member in task.members
    ]
    return GanTrainer(
        architecture.build_generator(settings, images.shape[1:]),
        architecture.build_discriminator(settings, images.shape[1:]),
        Fooling(classifiers, task.cohort.phi, task.cohort.fooling),
        images,
        recipe,
        _make_stream(task),
        accelerator,
    )


def _build_classifier_trainer(
    task: TrainingTask, recipe: ClassifierRecipe, accelerator: Accelerator
) -> ClassifierTrainer:
    assert isinstance(task.cohort, ClassifierCohort)
    images = _open_reals(task)
    architecture = classifier_architectures.get(recipe.architecture)
    settings = parse_settings(architecture, recipe.model)
    spec = architecture.make_input_spec(settings, images.shape[1:])
    generators = [
        load_generator(member.get_directory(task.root), member.sha256) for member in task.members
    ]
    classifier = GanClassifier(architecture.build(settings, spec.input_shape), spec)
    if load_initial_weights(classifier.network, recipe, task.root) != task.initial_weights_sha256:
        raise UserError("initial_weights: the file changed since this command was started")
    return ClassifierTrainer(
        classifier,
        generators,
        task.cohort.truncation,
        images,
        recipe,
        _make_stream(task),
        accelerator,
    )


def _open_reals(task: TrainingTask) -> ImageStore:
    return open_images(get_prepared_directory(task.root) / TRAIN_IMAGES)


def _make_stream(task: TrainingTask) -> Stream:
    return Stream(task.seed, task.cohort_path, task.instance)


def write_result(
    task: TrainingTask,
    trainer: GanTrainer | ClassifierTrainer,
    curves: Curves,
    steps: int,
    directory: Path,
) -> None:
    """Write the files of an instance after its last step, meta.json last."""
    if isinstance(trainer, GanTrainer):
        described = _write_gan(task, trainer, directory)
    else:
        described = _write_classifier(trainer, directory)
    write_text(directory / CURVES_FILE, curves.to_csv())
    files = sorted(path for path in directory.iterdir() if path.name != META_FILE)
    images_a_step = task.recipe.batch_size * task.recipe.gradient_accumulation_steps
    meta = {
        "format": FORMAT,
        "kind": task.kind.value,
        "cohort": task.name,
        "instance": task.instance,
        **task.describe(),
        "steps_done": steps,
        "images_seen": steps * images_a_step,
        "image_shape": list(_open_reals(task).shape[1:]),
        "versions": get_versions(_RECORDED_VERSIONS),
        "files": {path.name: hash_file(path) for path in files},
        **described,
    }
    write_json(directory / META_FILE, meta)


def _write_gan(task: TrainingTask, trainer: GanTrainer, directory: Path) -> dict[str, Any]:
    generator, device = trainer.get_result(), trainer.accelerator.device
    write_tensors(directory / GENERATOR_FILE, generator.state_dict())
    write_tensors(directory / DISCRIMINATOR_FILE, trainer.modules["discriminator"].state_dict())
    stream = _make_stream(task)
    latents = draw_latents(stream, _GRID_IMAGES, generator.latent_dim, "grid").to(device)
    stream.seed_layers("grid", device)
    # a rank's batch fits into the memory
    batches = latents.split(task.recipe.batch_size // trainer.accelerator.num_processes)
    images = torch.cat([sample_images(freeze(generator), batch) for batch in batches])
    save_grid(directory / GRID_FILE, images.cpu().numpy())
    return {"weights": GENERATOR_FILE}


def _write_classifier(trainer: ClassifierTrainer, directory: Path) -> dict[str, Any]:
    classifier = trainer.get_result()
    write_tensors(directory / CLASSIFIER_FILE, classifier.state_dict())
    spec = classifier.spec.model_dump(mode="json")
    return {"weights": CLASSIFIER_FILE, "input_spec": spec}
