"""samples@COHORT: sample every generator of a cohort once, stored the way the reals are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.data.images import save_batches
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.models.frozen import load_generator, read_meta
from knowledge_gaps.runtime.determinism import configure_process
from knowledge_gaps.runtime.devices import find_device
from knowledge_gaps.runtime.files import publish_directory
from knowledge_gaps.runtime.layout import get_instance_directory, get_samples_file
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import need
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images


def run(root: Path, study: Study, name: str) -> None:
    """Write data/samples/COHORT, one file for each instance.

    Raises:
        UserError: when the cohort is unknown, or a checkpoint is missing or altered.
    """
    need(name, study.gans, "cohort", "gans")
    configure_process()

    def fill(directory: Path) -> None:
        for instance in range(study.gans[name].instances):
            path = directory / get_samples_file(root, name, instance).name
            batches = _sample(root, study, name, instance)
            save_batches(path, study.evaluation.num_images, batches)

    publish_directory(get_samples_file(root, name, 0).parent, fill)


def _sample(root: Path, study: Study, name: str, instance: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield an instance's images, uint8 [n, C, H, W]: one batch in memory at a time."""
    cohort, device = f"gans/{name}", find_device()
    directory = get_instance_directory(root, cohort, instance)
    generator = load_generator(directory).to(device)
    stream = Stream(study.study.seed, cohort, instance)
    latents = draw_latents(
        stream, study.evaluation.num_images, generator.latent_dim, "evaluation"
    ).to(device)
    # layers that draw by themselves, such as noise inputs, draw other numbers than in training
    layers = Stream(study.study.seed, f"samples/{name}", instance)
    batches = latents.split(count_sampled(read_meta(directory)["image_shape"]))
    for index, batch in enumerate(batches):
        layers.seed_layers(index, device)
        yield sample_images(generator, batch).cpu().numpy()
