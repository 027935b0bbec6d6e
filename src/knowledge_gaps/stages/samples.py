"""samples: draw every generator's images once, and keep those that would come out the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.images import save_batches
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_generator, read_meta
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_generators
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images

_CODE = (
    "core/instance.py",
    "core/seeding.py",
    "data/images.py",
    "evaluation/batches.py",
    "models",
    "stages/samples.py",
    "training/batches.py",
)

_Name = tuple[str, Instance]  # GAN cohort, instance


def run(root: Path, study: Study) -> None:
    """Write data/samples, a file of images for each generator; raises UserError for a bad one.

    DVC leaves the folder as it is (`persist`). Images that would come out the same stay, what
    belongs to no generator of the study is removed, and every other file is replaced, never written
    into: it may be a link into DVC's cache.
    """
    names = list_generators(study)

    def is_valid(name: _Name, row: Row) -> bool:
        path = layout.get_samples_file(root, *name)
        return path.is_file() and hash_file(path) == row["sha256"]

    def compute(missing: list[_Name]) -> Iterator[dict[_Name, Row]]:
        draw = partial(save_samples, root, study)
        hashes = map_parallel(draw, missing, __name__, uses_gpu=True)
        for name, sha256 in zip(missing, hashes, strict=True):
            print(f"samples: drew {name[0]}/{name[1]}", flush=True)
            yield {name: {"sha256": sha256}}

    keys = {name: _make_key(root, study, *name) for name in names}
    kept = {layout.get_samples_file(root, *name) for name in names}
    _remove_others(root / layout.SAMPLES, kept)
    compute_rows(root, "samples", keys, compute, is_valid)


def _make_key(root: Path, study: Study, cohort: str, instance: Instance) -> str:
    """Hash all that decides an instance's images; raises UserError for a missing checkpoint."""
    directory = layout.get_instance_directory(root, f"gans/{cohort}", instance)
    return make_key(
        [
            cohort,
            str(instance),
            study.study.seed,
            study.evaluation.num_images,
        ],  # decide the latents
        [hash_file(directory / file) for file in (layout.GENERATOR_FILE, layout.META_FILE)],
        hash_code(_CODE, (read_meta(directory)["architecture"],)),
        get_versions(("torch",)),
    )


def save_samples(root: Path, study: Study, name: _Name) -> str:
    """Write data/samples/COHORT/CHAIN/K.npy, uint8 [evaluation.num_images, C, H, W].

    Returns the file's sha256; raises UserError for a bad checkpoint or a full disk.
    """
    (cohort, instance), seed, device = name, study.study.seed, find_device()
    directory = layout.get_instance_directory(root, f"gans/{cohort}", instance)
    generator = load_generator(directory).to(device)
    stream = Stream(seed, f"gans/{cohort}", instance)
    # layers that draw random numbers, such as noise inputs, draw others than in training
    layers = Stream(seed, f"samples/{cohort}", instance)
    num_images = study.evaluation.num_images
    latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation").to(device)

    def draw() -> Iterator[Images]:
        size = count_sampled(read_meta(directory)["image_shape"])
        for index, batch in enumerate(latents.split(size)):
            layers.seed_layers(index, device)
            yield sample_images(generator, batch).cpu().numpy()

    path = layout.get_samples_file(root, cohort, instance)
    save_batches(path, num_images, draw())
    return hash_file(path)


def _remove_others(directory: Path, kept: set[Path]) -> None:
    """Remove what left the study and temporary files of a killed run, links included."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.rglob("*"), reverse=True):  # files before their folder
            if path.is_symlink() or path.is_file():
                if path not in kept:
                    path.unlink(missing_ok=True)
            elif not any(path.iterdir()):
                path.rmdir()
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror or error})") from error
