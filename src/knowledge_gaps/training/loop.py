"""What both training loops share: the way from the first step to the last.

A `Trainer` has the networks and makes one step; `run_training` calls it step by step, lowers
learning rates, logs, stops and saves. The saved state (`knowledge_gaps.training.state`) holds
everything that the next step depends on, so a resumed training ends in the same bytes as an
uninterrupted one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.study import TrainingSettings
from knowledge_gaps.training.curves import Curves, Row
from knowledge_gaps.training.optimizers import compute_decay
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.state import Stateful, load_state, save_state

SAVE_VARIABLE = "KGAPS_SAVE_EVERY_SEC"  # how often the resume state is saved; changes no result
_DEFAULT_SAVE_SEC = 20.0
_ADVICE = "the training diverged; lower the learning rate or phi (the last good state is kept)"


class DivergedError(UserError):
    """A loss or a weight is not finite; the last good state stays saved."""


class Trainer(Stateful, Protocol):
    """One instance in training."""

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Make one update of every network; return scalars to log, detached."""
        ...

    def is_finished(self, step: int) -> bool:
        """Tell whether the training ends before its last step, after `step` steps."""
        ...


class Session(Protocol):
    """Connects a training with the process that started it."""

    def is_stopping(self) -> bool:
        """Tell whether the training should save its state and stop."""
        ...

    def report(self, step: int, row: Row | None) -> None:
        """Tell how many steps are done, and the newest row of the curves if there is one."""
        ...


def run_training(
    trainer: Trainer, settings: TrainingSettings, state_file: Path, session: Session
) -> tuple[Curves, int]:
    """Train from the saved state, or from the start, to the last step.

    Args:
        trainer: freshly built; its state is overwritten when there is a saved one.
        settings: steps and log_every are read here.
        state_file: where the state is saved while training; by rank 0 alone.
        session: asked for stopping and told of progress.

    Returns:
        The curves, and how many steps were made.

    Raises:
        StoppedError: after the state was saved because the session of any rank is stopping.
        DivergedError: when a loss is not finite; the last good state stays saved.
    """
    ranks = Ranks.of(trainer.accelerator)
    base_rates = {
        name: [group["lr"] for group in optimizer.param_groups]
        for name, (optimizer, _) in trainer.optimizers.items()
    }
    step, curves = load_state(trainer, state_file)
    saver = _Saver(trainer, curves, state_file)
    session.report(step, None)
    while step < settings.steps and not ranks.agree(trainer.is_finished(step)):
        if ranks.agree(session.is_stopping()):
            ranks.run_on_main(partial(saver.save, step, curves.sums))
            raise StoppedError(f"saved at step {step}")
        for name, (optimizer, adam) in trainer.optimizers.items():
            factor = compute_decay(adam, step, settings.steps)
            for group, rate in zip(optimizer.param_groups, base_rates[name], strict=True):
                group["lr"] = rate * factor
        losses = trainer.run_step(step)
        step += 1
        curves.add(losses, skips_non_finite=trainer.accelerator.scaler is not None)
        is_row_due = step % settings.log_every == 0 or step == settings.steps
        session.report(step, _close_row(curves, step) if is_row_due else None)
        if ranks.is_main and saver.is_due():
            saver.save(step, losses)
    if step < settings.steps and curves.counts:  # finished early, between two rows
        session.report(step, _close_row(curves, step))
    if not _is_sound(trainer, {}):  # losses are taken before their update
        raise DivergedError(f"a weight is not finite after step {step}: {_ADVICE}")
    return curves, step


class _Saver:
    """Saves a training's state from time to time, as long as it is sound."""

    def __init__(self, trainer: Trainer, curves: Curves, path: Path) -> None:
        self._trainer, self._curves, self._path = trainer, curves, path
        text = os.environ.get(SAVE_VARIABLE, str(_DEFAULT_SAVE_SEC))
        try:
            self._every_sec = float(text)
        except ValueError as error:
            raise UserError(
                f"{SAVE_VARIABLE}: {text!r} found, a number of seconds is needed"
            ) from error
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._saved_at > self._every_sec

    def save(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Save the state after `step` steps, of which the last had these losses."""
        # a loss scaler lets a step with an infinite loss change nothing
        checked = losses if self._trainer.accelerator.scaler is None else {}
        if _is_sound(self._trainer, checked):
            save_state(self._trainer, step, self._curves, self._path)
        self._saved_at = time.monotonic()


def _is_sound(trainer: Trainer, losses: Mapping[str, Tensor]) -> bool:
    """Tell whether a state is worth keeping: losses, weights and other scalars are finite."""
    weights = (
        value for module in trainer.modules.values() for value in module.state_dict().values()
    )
    values = [*losses.values(), *trainer.scalars.values(), *weights]
    return all(bool(torch.isfinite(value).all()) for value in values)


def _close_row(curves: Curves, step: int) -> Row:
    """End a row after `step` steps; raises DivergedError when a mean in it is not finite."""
    row = curves.close_row(step)
    for name, value in row.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} before step {step}: {_ADVICE}")
    return row
