"""Instances at the same step, brought forward together: the loop of a batched program.

The counterpart of `knowledge_gaps.training.loop` for several instances; rows of curves, saving and
divergence are that module's functions, called for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge_gaps.runtime.errors import StoppedError
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.assignment import Assignment
from knowledge_gaps.training.batched.capture import capture_where_possible
from knowledge_gaps.training.batched.draws import Draws
from knowledge_gaps.training.batched.stack import GanStack
from knowledge_gaps.training.batched.step import BatchedStep, Logged
from knowledge_gaps.training.curves import Curves
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.instance import Workbench
from knowledge_gaps.training.loop import DivergedError, Saver, Session, close_row

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Member:
    """One instance of the program.

    Attributes:
        entry: its task and directories.
        trainer: its networks; views of the stacked ones while it is in a stack.
        bench: what it needs beside its task.
        session: asked for stopping and told of progress.
        curves: of the steps so far.
        step: how many steps were made.
    """

    entry: Assignment
    trainer: GanTrainer
    bench: Workbench
    session: Session
    curves: Curves
    step: int


class Advance:
    """Brings instances that stand at the same step forward together.

    Args:
        group: at least one; their steps, curves and networks are kept up to date.
        recipe: how they are trained.
        accelerator: device and precision.
    """

    def __init__(self, group: list[Member], recipe: GanRecipe, accelerator: Accelerator) -> None:
        self._group, self._recipe, self._device = group, recipe, accelerator.device
        trainers = [member.trainer for member in group]
        self._stack = GanStack(trainers, recipe)
        step = BatchedStep(self._stack, trainers[0].fooling, recipe, accelerator.autocast)
        self._is_regularised = step.is_regularised
        self._functions = {
            is_regularised: capture_where_possible(function, self._device)
            for is_regularised, function in ((False, step.run), (True, step.run_regularised))
        }
        self._sums = _Sums(group, self._device)
        self._savers = [Saver(m.trainer, m.curves, m.entry.state_file) for m in group]

    def run(self, stop: int) -> list[tuple[Member, DivergedError]]:
        """Make the steps up to `stop`, or fewer where instances diverge; return those.

        Raises:
            StoppedError: after the states were saved.
        """
        first, (start, *_) = self._group[0], {member.step for member in self._group}
        streams = [member.bench.stream for member in self._group]
        latent_dim = first.trainer.get_result().latent_dim
        draws = Draws(streams, first.bench.images, self._recipe, latent_dim, self._device)
        for step, batch in enumerate(draws.iterate(start, stop), start):
            if any(member.session.is_stopping() for member in self._group):
                self._save(step, {})
                raise StoppedError(f"saved at step {step}")
            self._stack.set_rates(step)
            logged = self._functions[self._is_regularised(step)](batch.latents, batch.reals)
            self._stack.move_average(step)
            self._sums.add(logged)
            diverged = self._note(step + 1)
            if diverged:
                self._hand_back(step + 1)
                return diverged
            if self._savers[0].is_due():
                self._save(step + 1, logged)
        self._hand_back(stop)
        return []

    def _note(self, step: int) -> list[tuple[Member, DivergedError]]:
        """Take note of a step in curves and progress; return the instances that diverged."""
        is_row = step % self._recipe.log_every == 0 or step == self._recipe.steps
        if is_row:
            self._sums.hand_out()
        diverged = []
        for member in self._group:
            member.step, row = step, None
            try:
                row = close_row(member.curves, step) if is_row else None
            except DivergedError as error:
                diverged.append((member, error))
            member.session.report(step, row)
        if is_row:
            self._sums.clear()
        return diverged

    def _save(self, step: int, logged: Logged) -> None:
        """Save the instances' states, each as long as it is sound."""
        self._hand_back(step)
        for index, (member, saver) in enumerate(zip(self._group, self._savers, strict=True)):
            losses = {name: values[index] for name, values in logged.items()}
            saver.save(step, losses or member.curves.sums)

    def _hand_back(self, step: int) -> None:
        self._stack.hand_back(step)
        self._sums.hand_out()


class _Sums:
    """The sums of the instances' curves since the last row, kept on the device.

    Args:
        group: whose curves they are; they stand at the same step, so their counts are equal.
        device: of the training.
    """

    def __init__(self, group: Sequence[Member], device: torch.device) -> None:
        self._group = group
        self._counts = dict(group[0].curves.counts)
        self._totals: dict[str, Tensor] = {
            name: torch.stack([member.curves.sums[name].to(device) for member in group])
            for name in self._counts
        }

    def add(self, logged: Logged) -> None:
        """Add one step's scalars of all instances."""
        for name, values in logged.items():
            total, values = self._totals.get(name), values.double()
            self._totals[name] = values if total is None else total + values
            self._counts[name] = self._counts.get(name, 0) + 1

    def hand_out(self) -> None:
        """Let the instances' curves have the present sums; waits for the device."""
        totals = {name: total.cpu() for name, total in self._totals.items()}
        for index, member in enumerate(self._group):
            member.curves.sums = {name: total[index] for name, total in totals.items()}
            member.curves.counts = dict(self._counts)

    def clear(self) -> None:
        """Start a new row."""
        self._totals, self._counts = {}, {}
