"""Two ranks train what one process trains: same batch, same gradients, same state.

One pair of processes runs everything that needs a pair (`train_in_ranks`) and leaves its weights in
files; the tests compare them with what this process computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.errors import StoppedError
from knowledge_gaps.execution.ranks import join_ranks, launch_ranks
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.ranks import Ranks
from training_tools import (
    LinearStyles,
    Session,
    SmallNetwork,
    are_equal,
    collect,
    make_classifier,
    make_classifier_trainer,
    make_gan_trainer,
    make_images,
)

STEPS = 4
STOP_AT = 3
ADAM = OptimizerSettings(learning_rate=1e-3, betas=(0.0, 0.99))
USUAL: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": 8,
    "generator_optimizer": ADAM,
    "discriminator_optimizer": ADAM,
}
LAZY = {"r1_gamma": 1.0, "r1_interval": 2, "path_length_weight": 2.0, "path_length_interval": 2}
LAZY |= {"mirror": True, "ema_decay": 0.9, "ema_ramp_up": 0.5}
# float32 rounding of sums in another order, amplified by Adam's division; a whole step is 1e-3. An
# image more or less in a mean moves Adam's averages of gradients by hundredths
WEIGHT_ATOL = 2e-6


def make_trainer(**recipe: Any) -> GanTrainer:
    torch.manual_seed(1)
    networks = LinearStyles(), SmallNetwork()
    classifier = GanClassifier(SmallNetwork(), make_classifier().spec)
    fooling = Fooling([classifier], 0.5, "sum")
    return make_gan_trainer(fooling, networks, make_images(lowest=0), **{**USUAL, **recipe})


def make_small_trainer() -> ClassifierTrainer:
    """Three generators share a batch of 8: 3, 3 and 2 images, and a rank's part cuts the second."""
    torch.manual_seed(2)
    generators = [LinearStyles() for _ in range(3)]
    augmentation = {"mirror": True, "translation_px": 1, "cutout_px": 2, "ema_decay": 0.9}
    recipe = {"steps": STEPS, "batch_size": 8, "optimizer": ADAM, **augmentation}
    return make_classifier_trainer(generators, SmallNetwork(), 0.7, **recipe)


MAKERS: dict[str, Callable[[], GanTrainer | ClassifierTrainer]] = {
    "lazy": partial(make_trainer, **LAZY),
    "accumulated": partial(
        make_trainer, **LAZY, gradient_accumulation_steps=2, max_gradient_norm=0.5
    ),
    "classifier": make_small_trainer,
    "dcgan": partial(make_gan_trainer, batch_size=8),
    "bf16": partial(make_trainer, **LAZY, mixed_precision="bf16"),
}


def train_steps(trainer: GanTrainer | ClassifierTrainer) -> dict[str, Tensor]:
    """Train some steps; return the state, and what was logged last."""
    for step in range(STEPS):
        logged = trainer.run_step(step)
    return collect(trainer) | {f"logged/{name}": value for name, value in logged.items()}


def train_to_end(state: Path, stop_before: int | None) -> dict[str, Tensor]:
    """Train from the saved state, if there is one, until told to stop or to the end."""
    trainer = make_trainer(**LAZY)
    is_last = trainer.ranks.index == trainer.ranks.size - 1  # the others are told by it
    with suppress(StoppedError):
        run_training(trainer, state, Session(stop_before if is_last else None))
    return collect(trainer)


# --- what the ranks run


def enter_rank(directory: Path) -> None:
    """Run `train_in_ranks` in a process that `launch_ranks` started."""
    configure_process()
    with join_ranks() as ranks:
        train_in_ranks(directory, ranks)


def train_in_ranks(directory: Path, ranks: Ranks) -> None:
    """Run everything that needs two ranks; each leaves its results in a folder of its own."""
    own = directory / str(ranks.index)

    def keep(name: str, tensors: Mapping[str, Tensor]) -> None:
        write_tensors(own / f"{name}.safetensors", dict(tensors))

    for name, make in MAKERS.items():
        keep(name, train_steps(make()))
    for name in ("whole", "killed"):
        keep(name, train_to_end(directory / f"{name}.state", None if name == "whole" else STOP_AT))
    keep("resumed", train_to_end(directory / "killed.state", None))
    keep("taken up", train_to_end(directory / "alone.state", None))


@pytest.fixture(scope="module")
def ranks_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two ranks left what `train_in_ranks` makes."""
    directory = tmp_path_factory.mktemp("ranks")
    train_to_end(directory / "alone.state", STOP_AT)
    for index in (0, 1):
        (directory / str(index)).mkdir()
    launch_ranks(2, enter_rank, directory)
    return directory


def read(directory: Path, rank: int, name: str) -> dict[str, Tensor]:
    return read_tensors(directory / str(rank) / f"{name}.safetensors")


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=WEIGHT_ATOL)


# --- weights, averages, Adam's averages of the gradients


@pytest.mark.parametrize("name", ["lazy", "accumulated", "classifier"])
def test_result_is_that_of_one_process_on_the_whole_batch(ranks_directory: Path, name: str) -> None:
    expected = train_steps(MAKERS[name]())
    assert_near(read(ranks_directory, 0, name), expected)
    assert expected.get("scalar/path_length_mean", 1) > 0


@pytest.mark.parametrize("name", MAKERS)
def test_ranks_hold_the_same_bits(ranks_directory: Path, name: str) -> None:
    found = read(ranks_directory, 0, name)
    assert are_equal(found, read(ranks_directory, 1, name))
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


def test_batch_statistics_differ_by_rank_and_are_averaged(ranks_directory: Path) -> None:
    found = read(ranks_directory, 0, "dcgan")
    expected = train_steps(MAKERS["dcgan"]())
    running = [name for name in found if name.startswith("module/generator/") and "running" in name]
    assert running
    for name in running:  # each rank normalises its own part, so these are near and not the same
        torch.testing.assert_close(found[name], expected[name], rtol=0.2, atol=0.05)
        assert not torch.equal(found[name], expected[name])


# --- resuming


def test_resumed_ranks_end_in_the_same_bits(ranks_directory: Path) -> None:
    whole = read(ranks_directory, 0, "whole")
    assert not are_equal(read(ranks_directory, 0, "killed"), whole)
    for rank in (0, 1):
        assert are_equal(read(ranks_directory, rank, "resumed"), whole)


def test_another_number_of_ranks_resumes(ranks_directory: Path) -> None:
    alone = train_to_end(ranks_directory / "none.state", None)
    # one process stopped, two went on; two stopped, one goes on
    assert_near(read(ranks_directory, 1, "taken up"), alone)
    found = train_to_end(ranks_directory / "killed.state", None)
    assert_near(found, alone)
