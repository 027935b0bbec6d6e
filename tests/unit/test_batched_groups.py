"""Which instances train together, and what becomes of a group that the memory does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from knowledge_gaps.runtime import devices
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, OptimizerSettings
from knowledge_gaps.training.assignment import Assignment
from knowledge_gaps.training.batched import choice, fitting
from knowledge_gaps.training.batched.choice import (
    BATCHED_VARIABLE,
    choose_share,
    form_groups,
    is_supported,
)

ADAM = OptimizerSettings(learning_rate=1e-3)


@dataclass(frozen=True)
class Task:
    """The part of a `TrainingTask` that is looked at here."""

    instance: int
    recipe: GanRecipe | ClassifierRecipe


def make_gan_recipe(**recipe: Any) -> GanRecipe:
    settings = {"architecture": "dcgan", "steps": 9, "batch_size": 4, **recipe}
    return GanRecipe(generator_optimizer=ADAM, discriminator_optimizer=ADAM, **settings)


def make_assignments(number: int, recipe: Any = None) -> list[Assignment]:
    return [
        Assignment(Task(index, recipe or make_gan_recipe()), Path(str(index)))  # type: ignore[arg-type]
        for index in range(number)
    ]


def list_sizes(number: int, recipe: Any = None) -> list[int]:
    groups = form_groups(make_assignments(number, recipe))
    instances = [entry.task.instance for group in groups for entry in group]
    assert instances == list(range(number))
    return [len(group) for group in groups]


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BATCHED_VARIABLE, raising=False)
    monkeypatch.delenv(devices.WORKERS_VARIABLE, raising=False)


SetGpus = Callable[[int], None]


@pytest.fixture
def set_gpus(monkeypatch: pytest.MonkeyPatch) -> SetGpus:
    def set_number(number: int) -> None:
        for module in (choice, devices):
            monkeypatch.setattr(module, "count_gpus", lambda: number)

    return set_number


# ---------------------------------------------------------------------------------------- choice


@pytest.mark.parametrize(
    ("num_gpus", "num_instances", "sizes"),
    [
        (0, 8, [1] * 8),
        (1, 8, [8]),
        (1, 1, [1]),
        (2, 2, [1, 1]),
        (2, 3, [1, 2]),
        (4, 10, [2, 3, 2, 3]),
        (8, 4, [1] * 4),
    ],
)
def test_one_program_a_gpu(
    set_gpus: SetGpus, num_gpus: int, num_instances: int, sizes: list[int]
) -> None:
    set_gpus(num_gpus)
    assert list_sizes(num_instances) == sizes


@pytest.mark.parametrize(
    ("num_gpus", "num_ranks", "share"),
    [(0, 2, 1), (1, 2, 4), (1, 3, 3), (8, 7, 2), (8, 8, 1), (1, 16, 1)],
)
def test_even_share_a_rank(
    set_gpus: SetGpus, monkeypatch: pytest.MonkeyPatch, num_gpus: int, num_ranks: int, share: int
) -> None:
    set_gpus(num_gpus)
    assert choose_share(make_assignments(8), num_ranks) == share
    classifier = ClassifierRecipe(architecture="cnn", steps=9, batch_size=4, optimizer=ADAM)
    assert choose_share(make_assignments(8, classifier), num_ranks) == 1
    for chosen, expected in (("0", 1), ("1", -(-8 // num_ranks))):
        monkeypatch.setenv(BATCHED_VARIABLE, chosen)
        assert choose_share(make_assignments(8), num_ranks) == expected


def test_choice_can_be_overridden(set_gpus: SetGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(1)
    monkeypatch.setenv(BATCHED_VARIABLE, "0")
    assert list_sizes(4) == [1] * 4
    set_gpus(0)
    monkeypatch.setenv(BATCHED_VARIABLE, "1")
    monkeypatch.setenv(devices.WORKERS_VARIABLE, "2")
    assert list_sizes(4) == [2, 2]
    assert list_sizes(1) == [1]
    monkeypatch.setenv(BATCHED_VARIABLE, "yes")
    with pytest.raises(UserError, match=r"^KGAPS_BATCHED: 'yes' found, '0' or '1' is needed$"):
        form_groups(make_assignments(4))


@pytest.mark.parametrize(
    "lacking",
    [
        {"mixed_precision": "fp16"},
        {"gradient_accumulation_steps": 2},
        {"path_length_weight": 2.0},
        {"architecture": "stylegan2"},
    ],
)
def test_what_the_program_lacks_trains_alone(set_gpus: SetGpus, lacking: dict[str, Any]) -> None:
    set_gpus(1)
    assert is_supported(make_gan_recipe())
    assert list_sizes(3, make_gan_recipe(**lacking)) == [1, 1, 1]


def test_classifiers_train_alone(set_gpus: SetGpus) -> None:
    set_gpus(1)
    recipe = ClassifierRecipe(architecture="cnn", steps=9, batch_size=4, optimizer=ADAM)
    assert list_sizes(3, recipe) == [1, 1, 1]


# ---------------------------------------------------------------------------------------- memory


@dataclass
class Machine:
    """Stands in for both trainings: together, no more than so many instances fit.

    Attributes:
        limit: of instances.
        ends_first: an instance that ends, with an error, before memory runs out.
        tried: groups that were begun, by instances.
        ended: instances, and what failed.
    """

    limit: int
    ends_first: int | None = None
    tried: list[list[int]] = field(default_factory=list)
    ended: list[tuple[int, str]] = field(default_factory=list)

    def train_together(
        self, group: Any, worker: int, sessions: Mapping[int, Any], end: fitting.End
    ) -> None:
        self.tried.append([entry.task.instance for entry in group])
        for entry in group:
            if entry.task.instance == self.ends_first:
                end(entry, UserError("diverged"))
        if len(group) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for entry in group:
            if entry.task.instance != self.ends_first:
                end(entry, None)

    def train_instance(self, task: Task, *_: Any) -> None:
        self.tried.append([task.instance])
        if self.limit == 0:
            raise UserError("batch_size: 4 images do not fit")

    def run(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        monkeypatch.setattr(fitting, "train_together", self.train_together)
        monkeypatch.setattr(fitting, "train_instance", self.train_instance)
        sessions: Any = dict.fromkeys(range(number))
        fitting.train_what_fits(tuple(make_assignments(number)), 0, sessions, self.end)

    def end(self, entry: Assignment, error: UserError | None) -> None:
        self.ended.append((entry.task.instance, str(error or "")))


def test_group_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(limit=2)
    machine.run(monkeypatch, 5)
    assert machine.tried == [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [2], [3, 4]]
    assert machine.ended == [(index, "") for index in range(5)]


def test_what_ended_before_memory_ran_out_is_not_trained_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(limit=2, ends_first=1)
    machine.run(monkeypatch, 4)
    assert machine.tried == [[0, 1, 2, 3], [0, 2], [3]]
    assert machine.ended == [(1, "diverged"), (0, ""), (2, ""), (3, "")]


def test_instance_that_does_not_fit_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(limit=0)
    machine.run(monkeypatch, 2)
    assert machine.tried == [[0, 1], [0], [1]]
    text = "batch_size: 4 images do not fit"
    assert machine.ended == [(0, text), (1, text)]


def test_another_error_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(fitting, "train_together", fail)
    with pytest.raises(RuntimeError, match="something else"):
        fitting.train_what_fits(tuple(make_assignments(2)), 0, {}, lambda *_: None)
