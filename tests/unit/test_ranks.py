"""Two ranks train what one process trains: same batch, same gradients, same state.

One pair of processes runs everything that needs a pair (`train_in_ranks`) and leaves its weights in
files; the tests compare them with what this process computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.data.store import hold_images
from knowledge_gaps.models.architectures.dcgan import (
    DcganDiscriminator,
    DcganGenerator,
    DcganSettings,
)
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.models.registry import Generator, gan_architectures, parse_settings
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, OptimizerSettings
from knowledge_gaps.training.batches import Stream, cut_shares
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.ranks import Ranks, build_accelerator
from rank_tools import run_ranks

SHAPE = (1, 8, 8)
STEPS = 4
STOP_AT = 3
ADAM = OptimizerSettings(learning_rate=1e-3, betas=(0.0, 0.99))
IMAGES = hold_images(
    torch.randint(
        0, 256, (40, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).numpy()
)
STYLEGAN2 = {
    "latent_dim": 6,
    "style_dim": 6,
    "mapping_layers": 2,
    "channel_base": 64,
    "max_channels": 8,
    # what would differ by rank: noise inputs, mixing latents, statistics of a batch
    "noise": False,
    "style_mixing": 0.0,
    "mbstd_group": 1,
}
LAZY = {"r1_gamma": 1.0, "r1_interval": 2, "path_length_weight": 2.0, "path_length_interval": 2}
GANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lazy": {**LAZY, "mirror": True, "ema_decay": 0.9, "ema_ramp_up": 0.5},
    "accumulated": {**LAZY, "gradient_accumulation_steps": 2, "max_gradient_norm": 0.5},
}
# float32 rounding of sums in another order; an image more or less in a mean is off by tenths
GRADIENT_RTOL, GRADIENT_ATOL = 1e-5, 5e-7
# the same, amplified by Adam's division; a whole step is 1e-3
WEIGHT_ATOL = 2e-6


class Session:
    """Stops a training before a step, or never; on rank 1 alone where there are two."""

    def __init__(self, stop_before: int | None, ranks: Ranks) -> None:
        self._stop_before = stop_before if ranks.index == ranks.size - 1 else None
        self._step = 0

    def is_stopping(self) -> bool:
        return self._step == self._stop_before

    def report(self, step: int, row: dict[str, float] | None) -> None:
        self._step = step


class SmallClassifier(nn.Module):
    """Without batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)


def make_classifier() -> GanClassifier:
    spec = InputSpec(channels=1, image_px=(8, 8), input_px=(8, 8), mean=(0.5,), std=(0.5,))
    return GanClassifier(SmallClassifier(), spec)


def make_networks(name: str) -> tuple[Generator, nn.Module]:
    if name == "dcgan":
        settings = DcganSettings(latent_dim=3, channels=[6])
        return DcganGenerator(settings, SHAPE), DcganDiscriminator(settings, SHAPE)
    architecture = gan_architectures.get("stylegan2")
    model = parse_settings(architecture, STYLEGAN2)
    return architecture.build_generator(model, SHAPE), architecture.build_discriminator(
        model, SHAPE
    )


def make_gan_trainer(architecture: str = "stylegan2", **recipe: Any) -> GanTrainer:
    torch.manual_seed(1)
    generator, discriminator = make_networks(architecture)
    settings = {"architecture": architecture, "steps": STEPS, "batch_size": 8, **recipe}
    accumulated = recipe.get("gradient_accumulation_steps", 1)
    return GanTrainer(
        generator,
        discriminator,
        Fooling([freeze(make_classifier())], 0.5, "sum"),
        IMAGES,
        GanRecipe(generator_optimizer=ADAM, discriminator_optimizer=ADAM, **settings),
        Stream(0, "gans/test", 0),
        build_accelerator(0, recipe.get("mixed_precision", "no"), accumulated),
    )


def make_classifier_trainer() -> ClassifierTrainer:
    """Three generators share a batch of 8: 3, 3 and 2 images, and a rank's part cuts the second."""
    torch.manual_seed(2)
    generators = [make_networks("stylegan2")[0] for _ in range(3)]
    recipe = {"architecture": "cnn", "steps": STEPS, "batch_size": 8, "ema_decay": 0.9}
    augmentation = {"mirror": True, "translation_px": 1, "cutout_px": 2}
    return ClassifierTrainer(
        make_classifier(),
        generators,
        0.7,
        IMAGES,
        ClassifierRecipe.model_validate({**recipe, **augmentation, "optimizer": ADAM}),
        Stream(0, "classifiers/test", 0),
        build_accelerator(0),
    )


def forget_accelerator() -> None:
    """Drop accelerate's process-wide precision, which another trainer does not share."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def collect(trainer: GanTrainer | ClassifierTrainer) -> dict[str, Tensor]:
    """Collect weights, buffers, optimiser states and scalars."""
    found = {f"scalar/{name}": value for name, value in trainer.scalars.items()}
    for name, module in trainer.modules.items():
        found.update({f"{name}/{key}": value for key, value in module.state_dict().items()})
    for name, (optimizer, _) in trainer.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            found.update({f"adam/{name}/{index}/{key}": v for key, v in entries.items()})
    return {name: value.clone() for name, value in found.items()}


def train_steps(trainer: GanTrainer | ClassifierTrainer) -> dict[str, Tensor]:
    """Train some steps; return the state, and what was logged last."""
    for step in range(STEPS):
        logged = trainer.run_step(step)
    return collect(trainer) | {f"logged/{name}": value for name, value in logged.items()}


def take_gradients(**recipe: Any) -> dict[str, Tensor]:
    """Return the gradients of all phases of one step, at the same weights: nothing moves them."""
    trainer = make_gan_trainer(**recipe)
    taken: dict[str, Tensor] = {}
    for name, (optimizer, _) in trainer.optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        optimizer.register_step_pre_hook(partial(note_gradients, taken, name))
    trainer.run_step(0)
    return taken


def note_gradients(taken: dict[str, Tensor], name: str, optimizer: Optimizer, *_: object) -> None:
    update = len({key.rpartition("/")[0] for key in taken if key.startswith(name)})
    for index, value in enumerate(optimizer.param_groups[0]["params"]):
        if value.grad is not None:
            taken[f"{name}/{update}/{index}"] = value.grad.clone()


def train_to_end(state: Path, stop_before: int | None) -> dict[str, Tensor]:
    """Train from the saved state, if there is one, until told to stop or to the end."""
    trainer = make_gan_trainer(**GANS["lazy"])
    session = Session(stop_before, Ranks.of(trainer.accelerator))
    with suppress(StoppedError):
        run_training(trainer, trainer._recipe, state, session)
    return collect(trainer)


# ------------------------------------------------------------------------ what the ranks run


def train_in_ranks(directory: Path) -> None:
    """Run everything that needs two ranks; each leaves its results in a folder of its own."""
    ranks = Ranks.of(build_accelerator(0))
    own = directory / str(ranks.index)

    def keep(name: str, tensors: Mapping[str, Tensor]) -> None:
        write_tensors(own / f"{name}.safetensors", dict(tensors))

    for name, recipe in GANS.items():
        keep(f"gradients {name}", take_gradients(**recipe))
        keep(f"weights {name}", train_steps(make_gan_trainer(**recipe)))
    keep("classifier", train_steps(make_classifier_trainer()))
    keep("dcgan", train_steps(make_gan_trainer("dcgan")))
    for name in ("whole", "killed"):
        keep(name, train_to_end(directory / f"{name}.state", None if name == "whole" else STOP_AT))
    keep("resumed", train_to_end(directory / "killed.state", None))
    keep("taken up", train_to_end(directory / "alone.state", None))
    talk(ranks, own)
    forget_accelerator()
    keep("bf16", train_steps(make_gan_trainer(mixed_precision="bf16", **GANS["lazy"])))


def talk(ranks: Ranks, own: Path) -> None:
    """Note what the ranks learn of one another."""
    said: dict[str, Any] = {
        "wishes": [ranks.agree(wish) for wish in (ranks.index == 1, False, True)],
        "text": ranks.share(f"from rank {ranks.index}: \u03c6"),
        "cut": [ranks.cut(8).start, ranks.cut(8).stop],
    }
    tensors = {"a": torch.tensor(0.5), "c": torch.empty(0, 2)}
    shared = ranks.share(tensors if ranks.is_main else None)
    said["tensors"] = {name: [str(v.dtype), v.tolist()] for name, v in shared.items()}
    values = [torch.tensor([float(ranks.index), 4.0]), torch.tensor(2.0 * ranks.index)]
    ranks.average(values)
    said["means"] = [value.tolist() for value in values]
    runs = {"everywhere": (ranks.run_everywhere, 1), "main": (ranks.run_on_main, 0)}
    for key, (run, index) in runs.items():
        try:
            run(partial(fail_on_one, index, ranks))
        except UserError as error:
            said[key] = str(error)
    (own / "said.json").write_text(json.dumps(said))


def fail_on_one(index: int, ranks: Ranks) -> None:
    if ranks.index == index:
        raise UserError(f"rank {index} has no disk")


@pytest.fixture(scope="module")
def ranks_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two ranks left what `train_in_ranks` makes."""
    directory = tmp_path_factory.mktemp("ranks")
    forget_accelerator()
    train_to_end(directory / "alone.state", STOP_AT)
    for index in (0, 1):
        (directory / str(index)).mkdir()
    assert run_ranks(train_in_ranks, directory) == [0, 0]
    return directory


@pytest.fixture(autouse=True)
def _reset_accelerate() -> Iterator[None]:
    forget_accelerator()
    yield
    forget_accelerator()


def read(directory: Path, rank: int, name: str) -> dict[str, Tensor]:
    return read_tensors(directory / str(rank) / f"{name}.safetensors")


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, **tolerance)


def are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# ---------------------------------------------------------------------------- gradients, weights


@pytest.mark.parametrize("name", GANS)
def test_gradients_are_those_of_one_process_on_the_whole_batch(
    ranks_directory: Path, name: str
) -> None:
    expected = take_gradients(**GANS[name])
    updates = {key.rpartition("/")[0] for key in expected}
    assert len(updates) == (2 if name == "plain" else 4)  # D, R1, G, path length
    for rank in (0, 1):
        found = read(ranks_directory, rank, f"gradients {name}")
        assert_near(found, expected, rtol=GRADIENT_RTOL, atol=GRADIENT_ATOL)


@pytest.mark.parametrize("name", GANS)
def test_weights_are_those_of_one_process(ranks_directory: Path, name: str) -> None:
    expected = train_steps(make_gan_trainer(**GANS[name]))
    found = read(ranks_directory, 0, f"weights {name}")
    assert_near(found, expected, rtol=0, atol=WEIGHT_ATOL)
    if name != "plain":
        assert expected["scalar/path_length_mean"] > 0


def test_classifier_is_that_of_one_process(ranks_directory: Path) -> None:
    expected = train_steps(make_classifier_trainer())
    assert_near(read(ranks_directory, 0, "classifier"), expected, rtol=0, atol=WEIGHT_ATOL)


@pytest.mark.parametrize("name", ["weights lazy", "weights accumulated", "classifier", "dcgan"])
def test_ranks_hold_the_same_bits(ranks_directory: Path, name: str) -> None:
    assert are_equal(read(ranks_directory, 0, name), read(ranks_directory, 1, name))


def test_batch_statistics_differ_by_rank_and_are_averaged(ranks_directory: Path) -> None:
    found = read(ranks_directory, 0, "dcgan")
    expected = train_steps(make_gan_trainer("dcgan"))
    running = [name for name in found if name.startswith("generator/") and "running" in name]
    assert running
    for name in running:  # each rank normalises its own part, so these are near and not the same
        torch.testing.assert_close(found[name], expected[name], rtol=0.2, atol=0.05)
        assert not torch.equal(found[name], expected[name])


def test_half_precision_runs_in_ranks(ranks_directory: Path) -> None:
    found = read(ranks_directory, 0, "bf16")
    assert are_equal(found, read(ranks_directory, 1, "bf16"))
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert not are_equal(found, read(ranks_directory, 0, "weights lazy"))


# --------------------------------------------------------------------------------------- resuming


def test_resumed_ranks_end_in_the_same_bits(ranks_directory: Path) -> None:
    whole = read(ranks_directory, 0, "whole")
    assert not are_equal(read(ranks_directory, 0, "killed"), whole)
    for rank in (0, 1):
        assert are_equal(read(ranks_directory, rank, "resumed"), whole)


def test_another_number_of_ranks_resumes(ranks_directory: Path) -> None:
    alone = train_to_end(ranks_directory / "none.state", None)
    # one process stopped, two went on; two stopped, one goes on
    assert_near(read(ranks_directory, 1, "taken up"), alone, rtol=0, atol=WEIGHT_ATOL)
    found = train_to_end(ranks_directory / "killed.state", None)
    assert_near(found, alone, rtol=0, atol=WEIGHT_ATOL)


# --------------------------------------------------------------------------------- talking, sharing


def test_what_ranks_say_to_one_another(ranks_directory: Path) -> None:
    for rank in (0, 1):
        said = json.loads((ranks_directory / str(rank) / "said.json").read_text())
        assert said.pop("cut") == [4 * rank, 4 * rank + 4]
        assert said == {
            "wishes": [True, False, True],
            "text": "from rank 0: \u03c6",
            "tensors": {
                "a": ["torch.float32", 0.5],
                "c": ["torch.float32", []],
            },
            "means": [[0.5, 4.0], 1.0],
            "everywhere": "rank 1 has no disk",
            "main": "rank 0 has no disk",
        }


def test_a_process_on_its_own_sends_nothing() -> None:
    ranks, value = Ranks(), torch.tensor(3.0)
    ranks.average([value])
    assert value == 3.0
    assert (ranks.cut(7), ranks.agree(False), ranks.agree(True)) == (slice(0, 7), False, True)
    with pytest.raises(UserError, match="no disk"):
        ranks.run_on_main(partial(fail_on_one, 0, ranks))


def test_shares_of_generators_are_cut_where_the_batch_is() -> None:
    assert cut_shares([3, 3, 2], slice(0, 4)) == [slice(0, 3), slice(0, 1), slice(0, 0)]
    assert cut_shares([3, 3, 2], slice(4, 8)) == [slice(3, 3), slice(1, 3), slice(0, 2)]
