"""Every evaluation stage on colour images of 32 px, by an extractor without classes.

The networks are fresh from their registry: nothing here depends on what they have learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.files import write_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import CLASSIFIER_FILE, GENERATOR_FILE, META_FILE
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.models.frozen import FORMAT
from knowledge_gaps.models.networks import build_classifier, build_generator
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.stages import samples
from knowledge_gaps.study import PARAMS_FILE, load_study
from study_tools import (
    change_params,
    get_samples,
    hash_tree,
    make_smoke_root,
    read_table,
    run_stage,
)

SHAPE = (3, 32, 32)
CLASSIFIER: dict[str, Any] = {
    "architecture": "resnet50",
    "model": {"width_divisor": 16, "input_px": 32},
    "translation_px": 0,
}
STAGES = ("samples", "detections", "perturbations", "controls", "quality", "judges", "spectra")
STAGES += ("attributions", "audit", "agreement")


def draw_squares(num_images: int, seed: int) -> npt.NDArray[np.uint8]:
    """Draw a photograph of four colours a side of 8 px, black nowhere."""
    colours = np.random.default_rng(seed).integers(1, 256, (num_images, 3, 4, 4), dtype=np.uint8)
    return np.ascontiguousarray(colours.repeat(8, axis=2).repeat(8, axis=3))


def write_instance(directory: Path, file: str, network: torch.nn.Module, **meta: object) -> None:
    sha256 = write_tensors(directory / file, dict(network.state_dict()))
    described = {"format": FORMAT, "image_shape": list(SHAPE), "files": {file: sha256}, **meta}
    write_json(directory / META_FILE, described)


def write_networks(root: Path) -> None:
    """Write the generators and classifiers of the smoke study, as they are before training."""
    model = load_study(root / PARAMS_FILE).gan_recipes["dcgan"].model
    meta = {"kind": "gans", "architecture": "dcgan", "settings": {"model": model}}
    for name, instance in itertools.product(("baseline", "fool_all_1"), range(2)):
        torch.manual_seed(instance + 10 * len(name))
        directory = root / "models" / "gans" / name / f"0/{instance}"
        write_instance(directory, GENERATOR_FILE, build_generator("dcgan", model, SHAPE), **meta)
    meta = {"kind": "classifiers", "architecture": "resnet50", "settings": CLASSIFIER}
    for instance in range(2):
        torch.manual_seed(instance)
        classifier = build_classifier("resnet50", CLASSIFIER["model"], SHAPE)
        directory = root / "models" / "classifiers" / "iteration_0" / f"0/{instance}"
        spec = classifier.spec.model_dump(mode="json")
        write_instance(directory, CLASSIFIER_FILE, classifier, input_spec=spec, **meta)


def run_here(function: Callable[[Any], Any], items: Sequence[Any], *_: Any, **__: Any) -> Any:
    """Do without worker processes, as on a machine with a GPU; they take longer than the stages."""
    return map(function, items)


@pytest.fixture(scope="module")
def colour_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every evaluation stage was run; not to be altered."""
    root = make_smoke_root(tmp_path_factory.mktemp("colour") / "study")
    recipes = {f"classifier_recipes.cnn.{key}": value for key, value in CLASSIFIER.items()}
    evaluation = {"evaluation.extractor": "random_vgg", "evaluation.num_images": 24}
    change_params(root, {**evaluation, **recipes})
    for name, num_images, seed in (("train.npy", 80, 0), ("test.npy", 40, 1)):
        save_array(root / "data" / "prepared" / name, draw_squares(num_images, seed))
    write_networks(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        for stage in STAGES:
            patch.setattr(f"knowledge_gaps.stages.{stage}.map_parallel", run_here, raising=False)
            run_stage(root, stage)
    return root


def test_distance_without_inception_is_not_called_fid(colour_root: Path) -> None:
    quality = read_table(colour_root, "quality")
    assert [name for name in map(str, quality) if name[0] == "f"] == ["frechet_random_vgg_24"]
    distance = quality["frechet_random_vgg_24"]
    assert distance[0] < distance[1:].min() / 4  # reals are nearer than generated images
    for name in ("class_entropy", "missing_classes"):
        assert quality[f"{name}_random_vgg_24"].isna().all()
    assert set(quality["collapse"]) <= {"empty", "reduced", "intact"}
    assert quality["collapse"][0] == "intact"  # the reals themselves
    assert set(read_table(colour_root, "neighbours")) >= {"distance_random_vgg"}


def test_every_stage_has_all_of_its_rows(colour_root: Path) -> None:
    images = open_images(get_samples(colour_root, "baseline", 0, 1))
    assert images.shape == (24, *SHAPE)
    assert not np.array_equal(images[:, 0], images[:, 1])
    assert len(read_table(colour_root, "detections")) == 4 * 2
    assert len(read_table(colour_root, "judges")) == 3 * 4  # judges, generators
    perturbed = read_table(colour_root, "perturbations")
    assert len(perturbed) == 3 * 2 * 9
    assert perturbed[["detection_rate", "auc"]].notna().all(axis=None)
    assert perturbed["detection_at_5pct"].isna().all()  # 16 of 40 test reals are left
    controlled = read_table(colour_root, "controls")
    assert (
        len(controlled) == 3 * 2 + (6 + 1) * 2
    )  # unchanged; attacked, matched ones of one generator
    assert controlled["frechet_random_vgg_24"].notna().all()
    assert len(read_table(colour_root, "spectra")) == 6 * 16  # sets, cycles an image
    attributed = read_table(colour_root, "attributions")
    assert attributed["images"].tolist() == ["fool_all_1", "baseline", "real"]
    assert attributed["num_images"].tolist() == [24, 24, 40]
    assert len(read_table(colour_root, "agreement")) == 2
    audited = read_table(colour_root, "audit")
    assert audited["verdict"][:3].tolist() == ["pass"] * 3
    assert audited["verdict"][5:].tolist() == ["pass"] * 4
    means = np.load(
        colour_root / "data" / "attributions" / "real" / "mean_absolute.npy", allow_pickle=False
    )
    assert means.shape == (2, *SHAPE)
    assert means.min() > 0


class Noisy(Generator):
    """A generator whose images are the noise that it draws by itself."""

    latent_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, latents: Tensor) -> Tensor:
        return torch.rand(len(latents), *SHAPE) * 2 - 1


def test_noise_of_layers_is_the_same_in_every_run_and_new_in_every_batch(
    colour_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "load_generator", lambda _: Noisy())
    monkeypatch.setattr(samples, "count_sampled", lambda _: 12)
    (tmp_path / "models").symlink_to(colour_root / "models")
    study = load_study(colour_root / PARAMS_FILE)
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # whatever was drawn before
        for instance in range(2):
            samples.save_samples(tmp_path, study, ("baseline", Instance(0, instance)))
        runs.append(hash_tree(tmp_path / "data" / "samples"))
    assert runs[0] == runs[1]
    images = [open_images(get_samples(tmp_path, "baseline", 0, i)) for i in range(2)]
    parts = [part.tobytes() for array in images for part in (array[:12], array[12:])]
    assert len(set(parts)) == 4
