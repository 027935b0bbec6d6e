"""From the first step of a training to the last: learning rates, curves, stopping and saving."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.training.state import Curves, collect_state, load_state, write_state
from knowledge_gaps.training.task import Row, Session
from knowledge_gaps.training.trainer import Trainer, compute_decay

SAVE_VARIABLE = "KGAPS_SAVE_EVERY_SEC"  # how often the resume state is saved; changes no result
_DEFAULT_SAVE_SEC = 20.0
_ADVICE = "the training diverged; lower the learning rate or phi (the last good state is kept)"


class DivergedError(UserError):
    """A loss or a weight is not finite; the last good state stays saved."""


def run_training(trainer: Trainer, state_file: Path, session: Session) -> tuple[Curves, int]:
    """Train from the saved state, or the start, to the last step; return curves and steps made.

    Raises StoppedError, the state saved, and DivergedError, the last good state kept.
    """
    ranks, recipe, save_every_sec = trainer.ranks, trainer.recipe, _read_save_interval()
    step, curves = load_state(trainer, state_file)
    saved_at = time.monotonic()
    session.report(step, None)
    while step < recipe.steps and not ranks.agree(trainer.is_finished()):
        if ranks.agree(session.is_stopping()):
            _save_if_sound(trainer, step, curves, state_file)
            raise StoppedError(f"saved at step {step}")
        for optimizer in trainer.optimizers.values():
            for group in optimizer.param_groups:
                decay = compute_decay(group["schedule"], step, recipe.steps)
                group["lr"] = group["initial_lr"] * decay
        losses = trainer.run_step(step)
        step += 1
        curves.add(losses)
        is_row_due = step % recipe.log_every == 0 or step == recipe.steps
        session.report(step, _close_row(curves, step) if is_row_due else None)
        if time.monotonic() - saved_at > save_every_sec:
            _save_if_sound(trainer, step, curves, state_file)
            saved_at = time.monotonic()
    if step < recipe.steps and curves.counts:  # finished early, between two rows
        session.report(step, _close_row(curves, step))
    if not _are_finite(collect_state(trainer, curves)):  # losses are taken before their update
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
    if trainer.ranks.is_main and _are_finite(tensors := collect_state(trainer, curves)):
        # the counts are in the columns' order
        counters = {"step": step, "rows": curves.rows, "counts": curves.counts}
        write_state(path, tensors, json.dumps(counters))


def _are_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether weights and sums are finite; an infinite moment of Adam only stops a weight."""
    names = [name for name in tensors if not name.startswith("optimizer/")]
    return all(bool(torch.isfinite(tensors[name]).all()) for name in names)


def _close_row(curves: Curves, step: int) -> Row:
    """End a row after `step` steps; raises DivergedError when a mean in it is not finite."""
    row = curves.close_row(step)
    for name, value in row.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} before step {step}: {_ADVICE}")
    return row
