"""What both training loops share: learning-rate decay, curves, stopping, saving and resuming.

A `Trainer` knows its networks and what one step is; `run_training` calls it step by step. The
state that is saved holds everything that the next step depends on, so a resumed training ends in
the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from knowledge_gaps.runtime.checkpoint import read_metadata, read_tensors, write_tensors
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.study import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

SAVE_VARIABLE = "KGAPS_SAVE_EVERY_SEC"  # how often the resume state is saved; changes no result
_DEFAULT_SAVE_SEC = 20.0

Row = dict[str, float]


class Trainer(Protocol):
    """One instance in training.

    Attributes:
        modules: every network with state, by name: what is trained, and averages of it.
        optimizers: by name, each with the settings that its learning rate follows.
        accelerator: whose loss scaler is part of the state where there is one (fp16).
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, tuple[Optimizer, OptimizerSettings]]
    accelerator: Accelerator

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Make one update of every network; return scalars to log, detached."""
        ...


class Session(Protocol):
    """The way from an instance in training to whoever started it."""

    def is_stopping(self) -> bool:
        """Tell whether the training should save its state and stop."""
        ...

    def report(self, step: int, row: Row | None) -> None:
        """Tell how many steps are done, and the newest row of the curves if there is one."""
        ...


@dataclass
class Curves:
    """Means of the logged scalars over every `log_every` steps.

    Attributes:
        rows: finished rows, each with "step" first.
        sums: of the scalars since the last row, float64.
        counts: how often each was logged since; a lazy regulariser's is not at every step.
    """

    rows: list[Row] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in losses.items():
            total = self.sums.get(name)
            self.sums[name] = value.double() if total is None else total + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_row(self, step: int) -> Row:
        """Turn the sums into a row that ends after `step` steps."""
        row = {"step": float(step)}
        row.update({name: sum_.item() / self.counts[name] for name, sum_ in self.sums.items()})
        self.rows.append(row)
        self.sums, self.counts = {}, {}
        return row

    def to_csv(self) -> str:
        """Render the rows; a scalar that a row lacks (a lazy regulariser's) stays empty."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
        writer.writeheader()
        for row in self.rows:
            values: dict[str, Any] = {name: f"{value:.6g}" for name, value in row.items()}
            writer.writerow({**values, "step": int(row["step"])})
        return text.getvalue()


def average_weights(module: nn.Module, decay: float) -> AveragedModel:
    """Start a moving average of a network's weights; its buffers follow the network's."""
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.requires_grad_(False)
    return average


def build_optimizer(module: nn.Module, settings: OptimizerSettings, interval: int = 1) -> Optimizer:
    """Build Adam for a network.

    Args:
        module: whose weights are updated.
        settings: from the recipe.
        interval: of a lazy regulariser that shares the optimiser; learning rate and betas are
            corrected by c = k / (k + 1) (Karras et al. 2020, appendix B); 1 for none.
    """
    correction = interval / (interval + 1) if interval > 1 else 1.0
    return torch.optim.AdamW(
        module.parameters(),
        lr=settings.learning_rate * correction,
        betas=(settings.betas[0] ** correction, settings.betas[1] ** correction),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def clip_and_step(
    accelerator: Accelerator, module: nn.Module, optimizer: Optimizer, max_norm: float | None
) -> None:
    """End a backward pass: clip, update, clear; nothing before gradients are complete.

    Within `accelerator.accumulate` the update and the clearing happen on the last micro-step only,
    so the gradients must be cleared after the update and never before a backward pass.

    Args:
        accelerator: knows whether the gradients are complete.
        module: whose gradients they are.
        optimizer: prepared by the accelerator.
        max_norm: 2-norm that the gradients are clipped to; None for no clipping.
    """
    if max_norm is not None and accelerator.sync_gradients:
        accelerator.clip_grad_norm_(module.parameters(), max_norm)
    optimizer.step()
    optimizer.zero_grad()


def compute_decay(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: 1 at first, towards 0 at the end."""
    start = settings.decay_from * steps
    if settings.schedule == "constant" or step < start:
        return 1.0
    remaining = (steps - step) / (steps - start)
    return remaining if settings.schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2


def run_training(
    trainer: Trainer, settings: TrainingSettings, state_file: Path, session: Session
) -> Curves:
    """Train from the saved state, or from the start, to the last step.

    Args:
        trainer: freshly built; its state is overwritten when there is a saved one.
        settings: steps and log_every are read here.
        state_file: where the state is saved while training.
        session: asked for stopping and told of progress.

    Returns:
        The curves.

    Raises:
        StoppedError: after the state was saved because the session is stopping.
        UserError: when a loss is not finite; the last good state stays saved.
    """
    base_rates = {name: group_rates(pair[0]) for name, pair in trainer.optimizers.items()}
    step, curves = _load_state(trainer, state_file)
    saved_at = time.monotonic()
    save_every_sec = _read_save_interval()
    session.report(step, None)
    while step < settings.steps:
        if session.is_stopping():
            if _is_sound(trainer, curves.sums):
                _save_state(trainer, step, curves, state_file)
            raise StoppedError(f"saved at step {step}")
        for name, (optimizer, adam) in trainer.optimizers.items():
            factor = compute_decay(adam, step, settings.steps)
            for group, rate in zip(optimizer.param_groups, base_rates[name], strict=True):
                group["lr"] = rate * factor
        losses = trainer.run_step(step)
        step += 1
        curves.add(losses)
        row = None
        if step % settings.log_every == 0 or step == settings.steps:
            row = curves.close_row(step)
            _check_finite(row)
        session.report(step, row)
        if time.monotonic() - saved_at > save_every_sec:
            if _is_sound(trainer, losses):
                _save_state(trainer, step, curves, state_file)
            saved_at = time.monotonic()
    _check_result(trainer, step)
    return curves


def _read_save_interval() -> float:
    text = os.environ.get(SAVE_VARIABLE, str(_DEFAULT_SAVE_SEC))
    try:
        return float(text)
    except ValueError as error:
        raise UserError(
            f"{SAVE_VARIABLE}: {text!r} found, a number of seconds is needed"
        ) from error


def group_rates(optimizer: Optimizer) -> list[float]:
    """Learning rates of an optimiser's groups."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def _is_sound(trainer: Trainer, losses: dict[str, Tensor]) -> bool:
    """Tell whether a state is worth keeping: losses and weights are finite."""
    weights = (
        value for module in trainer.modules.values() for value in module.state_dict().values()
    )
    return all(bool(torch.isfinite(value).all()) for value in [*losses.values(), *weights])


def _check_finite(row: Row) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise UserError(
                f"{name} is {value} before step {int(row['step'])}: the training diverged; "
                "lower the learning rate or phi (the last good state is kept)"
            )


def _check_result(trainer: Trainer, step: int) -> None:
    """Refuse a result that the last update spoilt: losses are taken before their update."""
    if not _is_sound(trainer, {}):
        raise UserError(
            f"a weight is not finite after step {step}: the training diverged; "
            "lower the learning rate or phi (the last good state is kept)"
        )


def _save_state(trainer: Trainer, step: int, curves: Curves, path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for name, module in trainer.modules.items():
        for key, value in module.state_dict().items():
            tensors[f"module/{name}/{key}"] = value
    for name, (optimizer, _) in trainer.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = value
    for name, total in curves.sums.items():
        tensors[f"sum/{name}"] = total
    scaler = trainer.accelerator.scaler
    counters = {
        "step": step,
        "rows": curves.rows,
        "counts": curves.counts,  # in the columns' order
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    write_tensors(path, tensors, {"counters": json.dumps(counters)})


def _load_state(trainer: Trainer, path: Path) -> tuple[int, Curves]:
    if not path.exists():
        return 0, Curves()
    tensors = read_tensors(path)
    counters = json.loads(read_metadata(path)["counters"])
    for name, module in trainer.modules.items():
        module.load_state_dict(_select(tensors, f"module/{name}/"), strict=True)
    for name, (optimizer, _) in trainer.optimizers.items():
        _load_optimizer(optimizer, _select(tensors, f"optimizer/{name}/"))
    if counters["scaler"] is not None:
        trainer.accelerator.scaler.load_state_dict(counters["scaler"])
    sums = {name: tensors[f"sum/{name}"] for name in counters["counts"]}
    return counters["step"], Curves(counters["rows"], sums, counters["counts"])


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, entry = key.partition("/")
        state.setdefault(int(index), {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
