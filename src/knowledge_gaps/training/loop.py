"""From the first step of a training to the last: learning rates, curves, stopping and saving."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Protocol

import torch

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.study import TrainingSettings
from knowledge_gaps.training.state import Curves, Row, load_state, save_state
from knowledge_gaps.training.trainer import Trainer, compute_decay

SAVE_VARIABLE = "KGAPS_SAVE_EVERY_SEC"  # how often the resume state is saved; changes no result
_DEFAULT_SAVE_SEC = 20.0
_ADVICE = "the training diverged; lower the learning rate or phi (the last good state is kept)"


class DivergedError(UserError):
    """A loss or a weight is not finite; the last good state stays saved."""


class Session(Protocol):
    """Connects a training with the process that started it."""

    def is_stopping(self) -> bool:
        """Tell whether the training should save its state and stop."""

    def report(self, step: int, row: Row | None) -> None:
        """Tell how many steps are done, and the newest row of the curves if there is one."""


def run_training(
    trainer: Trainer, settings: TrainingSettings, state_file: Path, session: Session
) -> tuple[Curves, int]:
    """Train from the saved state, or the start, to the last step; return curves and steps made.

    Raises StoppedError, the state saved, and DivergedError, the last good state kept.
    """
    ranks, save_every_sec = trainer.ranks, _read_save_interval()
    step, curves = load_state(trainer, state_file)
    saved_at = time.monotonic()
    session.report(step, None)
    while step < settings.steps and not ranks.agree(trainer.is_finished()):
        if ranks.agree(session.is_stopping()):
            _save_if_sound(trainer, step, curves, state_file)
            raise StoppedError(f"saved at step {step}")
        for optimizer, adam in trainer.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * compute_decay(adam, step, settings.steps)
        losses = trainer.run_step(step)
        step += 1
        curves.add(losses)
        is_row_due = step % settings.log_every == 0 or step == settings.steps
        session.report(step, _close_row(curves, step) if is_row_due else None)
        if time.monotonic() - saved_at > save_every_sec:
            _save_if_sound(trainer, step, curves, state_file)
            saved_at = time.monotonic()
    if step < settings.steps and curves.counts:  # finished early, between two rows
        session.report(step, _close_row(curves, step))
    if not _is_sound(trainer, curves):  # losses are taken before their update
        raise DivergedError(f"a weight is not finite after step {step}: {_ADVICE}")
    return curves, step


def _read_save_interval() -> float:
    text = os.environ.get(SAVE_VARIABLE, str(_DEFAULT_SAVE_SEC))
    try:
        return float(text)
    except ValueError as error:
        message = f"{SAVE_VARIABLE}: {text!r} found, a number of seconds is needed"
        raise UserError(message) from error


def _save_if_sound(trainer: Trainer, step: int, curves: Curves, path: Path) -> None:
    if trainer.ranks.is_main and _is_sound(trainer, curves):
        save_state(trainer, step, curves, path)


def _is_sound(trainer: Trainer, curves: Curves) -> bool:
    """Tell whether a state is worth keeping: sums of losses, weights and scalars are finite."""
    weights = (
        value for module in trainer.modules.values() for value in module.state_dict().values()
    )
    values = [*curves.sums.values(), *trainer.scalars.values(), *weights]
    return all(bool(torch.isfinite(value).all()) for value in values)


def _close_row(curves: Curves, step: int) -> Row:
    """End a row after `step` steps; raises DivergedError when a mean in it is not finite."""
    row = curves.close_row(step)
    for name, value in row.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} before step {step}: {_ADVICE}")
    return row
