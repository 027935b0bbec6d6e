"""What tests of the batched program share: the same small GANs, trained alone or together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from knowledge_gaps.data.store import ImageStore, hold_images
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.architectures.dcgan import (
    DcganDiscriminator,
    DcganGenerator,
    DcganSettings,
)
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.runtime.accelerator import build_accelerator
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.assignment import Assignment
from knowledge_gaps.training.batched.advance import Advance, Member
from knowledge_gaps.training.batched.capture import StepFunction
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.curves import Curves
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.instance import Workbench
from knowledge_gaps.training.loop import run_training
from knowledge_gaps.training.phases import Fooling
from knowledge_gaps.training.state import load_state

SHAPE = (1, 8, 8)
SETTINGS = DcganSettings(latent_dim=3, channels=[6, 4])
# all that a recipe may ask of the batched program
FULL = {
    "r1_gamma": 2.0,
    "r1_interval": 3,
    "ema_decay": 0.9,
    "ema_ramp_up": 0.5,
    "max_gradient_norm": 0.3,
    "mirror": True,
}
IMAGES = hold_images(
    torch.randint(
        128, 256, (40, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).numpy()
)


@dataclass
class Note:
    """A session that stops before a step, and keeps what it is told."""

    stop_before: int | None = None
    step: int = -1
    rows: list[dict[str, float]] = field(default_factory=list)

    def is_stopping(self) -> bool:
        return self.step == self.stop_before

    def report(self, step: int, row: dict[str, float] | None) -> None:
        self.step = step
        self.rows += [] if row is None else [row]


def make_recipe(steps: int, **recipe: Any) -> GanRecipe:
    # rates fall, and differ
    adam = {"betas": (0.5, 0.99), "schedule": "cosine"}
    settings = {"architecture": "dcgan", "batch_size": 6, "log_every": 4, "steps": steps, **recipe}
    return GanRecipe(
        generator_optimizer=OptimizerSettings(learning_rate=2e-3, **adam),  # type: ignore[arg-type]
        discriminator_optimizer=OptimizerSettings(learning_rate=1e-3, **adam),  # type: ignore[arg-type]
        **settings,
    )


def make_classifier(seed: int) -> GanClassifier:
    settings = CnnSettings(channels=[4])
    torch.manual_seed(seed)
    classifier = GanClassifier(Cnn(settings, SHAPE), make_input_spec(settings, SHAPE))
    classifier(torch.randn(16, *SHAPE))  # moves the running statistics
    return classifier


def make_fooling(num_classifiers: int, form: str = "sum") -> Fooling:
    classifiers = [make_classifier(seed) for seed in range(num_classifiers)]
    return Fooling(classifiers, 0.7 if classifiers else 0.0, form)


def make_trainer(
    instance: int, recipe: GanRecipe, fooling: Fooling, accelerator: Accelerator | None = None
) -> GanTrainer:
    torch.manual_seed(100 + instance)
    return GanTrainer(
        DcganGenerator(SETTINGS, SHAPE),
        DcganDiscriminator(SETTINGS, SHAPE),
        fooling,
        IMAGES,
        recipe,
        make_stream(instance),
        accelerator or build_accelerator(0, recipe.mixed_precision),
    )


def make_stream(instance: int) -> Stream:
    return Stream(0, "gans/test", instance)


def make_member(
    instance: int,
    recipe: GanRecipe,
    fooling: Fooling,
    directory: Path,
    session: Note | None = None,
    images: ImageStore = IMAGES,
) -> Member:
    """Build an instance, resumed from its directory where a state is in it."""
    trainer = make_trainer(instance, recipe, fooling)
    entry = Assignment(cast(Any, None), directory / str(instance))  # its task is not asked for
    bench = Workbench(images, SHAPE, make_stream(instance), trainer.accelerator, recipe.batch_size)
    step, curves = load_state(trainer, entry.state_file)
    session = session or Note()
    session.report(step, None)
    return Member(entry, trainer, bench, session, curves, step)


def advance(members: list[Member], recipe: GanRecipe, stop: int) -> list[tuple[Member, Exception]]:
    """Bring members forward together; return those that diverged."""
    accelerator = members[0].trainer.accelerator
    return list(Advance(members, recipe, accelerator).run(stop))


def train_alone(
    instance: int, recipe: GanRecipe, fooling: Fooling, directory: Path
) -> tuple[GanTrainer, Curves]:
    trainer = make_trainer(instance, recipe, fooling)
    state_file = directory / str(instance) / "state.safetensors"
    curves, _ = run_training(trainer, recipe, state_file, Note())
    return trainer, curves


def collect_state(trainer: GanTrainer) -> dict[str, Tensor]:
    """Collect all tensors that a saved state of a trainer has."""
    found = {
        f"{name}/{key}": value.clone()
        for name, module in trainer.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, (optimizer, _) in trainer.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            found.update({f"{name}/{index}/{key}": v.clone() for key, v in entries.items()})
    return found


def measure_distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Measure the largest difference of any number of two states."""
    assert found.keys() == expected.keys()
    return max(
        float((found[name].double() - expected[name].double()).abs().max()) for name in expected
    )


def list_values(rows: Sequence[Mapping[str, float]]) -> list[float]:
    return [value for row in rows for value in row.values()]


class Tape(TorchDispatchMode):
    """Writes down every operation on tensors, with the tensors themselves."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class TapeRecorder:
    """A `capture.Recorder` on the CPU: a tape of operations, played again on the same tensors.

    As in a CUDA graph, a number that Python worked out is the recorded one for ever, and a tensor
    that is not one of the recorded ones is never looked at.
    """

    def __init__(self) -> None:
        self.tape, self.num_replays = Tape(), 0

    def warm_up(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        return function(*inputs)

    def record(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        with self.tape:
            return function(*inputs)

    @torch.no_grad()
    def replay(self) -> None:
        self.num_replays += 1
        for func, args, kwargs, out in self.tape.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
