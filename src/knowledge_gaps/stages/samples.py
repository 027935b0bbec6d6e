"""samples@COHORT: sample every generator of a cohort once, stored the way the reals are."""

from __future__ import annotations

from pathlib import Path

import torch

from knowledge_gaps.data.images import save_array
from knowledge_gaps.models.frozen import load_generator
from knowledge_gaps.runtime.determinism import configure_process
from knowledge_gaps.runtime.devices import build_accelerator
from knowledge_gaps.runtime.files import publish_directory
from knowledge_gaps.runtime.layout import get_instance_directory, get_samples_file
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import need
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images

_BATCH_SIZE = 250  # latents a forward pass


def run(root: Path, study: Study, name: str) -> None:
    """Write data/samples/COHORT, one file for each instance.

    Raises:
        UserError: when the cohort is unknown, or a checkpoint is missing or altered.
    """
    need(name, study.gans, "cohort", "gans")
    configure_process()
    device = build_accelerator(worker=0).device
    cohort = f"gans/{name}"

    def fill(directory: Path) -> None:
        for instance in range(study.gans[name].instances):
            generator = load_generator(get_instance_directory(root, cohort, instance)).to(device)
            stream = Stream(study.study.seed, cohort, instance)
            num_images = study.evaluation.num_images
            latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation")
            batches = latents.to(device).split(_BATCH_SIZE)
            images = torch.cat([sample_images(generator, batch) for batch in batches])
            save_array(
                directory / get_samples_file(root, name, instance).name, images.cpu().numpy()
            )

    publish_directory(get_samples_file(root, name, 0).parent, fill)
