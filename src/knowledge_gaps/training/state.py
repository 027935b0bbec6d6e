"""The resume state of a training: everything that its next step depends on, in one file.

The file carries its own checksum. A training goes on from a state only if every bit of it is as it
was saved: an error of the disk would otherwise end in weights that no run can repeat.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.core.checkpoint import read_metadata, read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.curves import Curves
from knowledge_gaps.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator


class Stateful(Protocol):
    """What of a trainer is saved and restored.

    Attributes:
        modules: every network with state, by name: what is trained, and averages of it.
        optimizers: by name, each with the settings that its learning rate follows.
        scalars: what else the next step depends on: float tensors without dimensions, by name.
        accelerator: whose loss scaler is part of the state where there is one (fp16).
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, tuple[Optimizer, OptimizerSettings]]
    scalars: dict[str, Tensor]
    accelerator: Accelerator


def save_state(trainer: Stateful, step: int, curves: Curves, path: Path) -> None:
    """Save a training after `step` steps; raises UserError when the file cannot be written."""
    tensors: dict[str, Tensor] = {}
    for name, module in trainer.modules.items():
        tensors |= _add_prefix(f"module/{name}", module.state_dict())
    for name, (optimizer, _) in trainer.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            tensors |= _add_prefix(f"optimizer/{name}/{index}", entries)
    for section, scalars in _list_scalars(trainer, curves).items():
        tensors |= _add_prefix(section, scalars)
    scaler = trainer.accelerator.scaler
    counters = {
        "step": step,
        "rows": curves.rows,
        "counts": curves.counts,  # in the columns' order
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    write_state(path, tensors, json.dumps(counters))


def write_state(path: Path, tensors: dict[str, Tensor], counters: str) -> None:
    """Write tensors and a JSON text of counters with their checksum; errors as `save_state`."""
    checksum = _compute_checksum(tensors, counters)
    write_tensors(path, tensors, {"counters": counters, "sha256": checksum})


def load_state(trainer: Stateful, path: Path) -> tuple[int, Curves]:
    """Restore a training from what rank 0 saved, if it did.

    Args:
        trainer: freshly built; what it holds is overwritten.
        path: of the file; only rank 0 reads it, and the others get its content.

    Returns:
        How many steps were made, and the curves.

    Raises:
        UserError: when the file is no whole state, or was altered.
    """
    ranks = Ranks.of(trainer.accelerator)
    if not ranks.agree(ranks.is_main and path.exists()):
        return 0, Curves()
    content = ranks.run_everywhere(lambda: _read(path) if ranks.is_main else None)
    tensors, counters = ranks.share(content)
    for name, module in trainer.modules.items():
        module.load_state_dict(_select(tensors, f"module/{name}/"), strict=True)
    for name, (optimizer, _) in trainer.optimizers.items():
        _load_optimizer(optimizer, _select(tensors, f"optimizer/{name}/"))
    for name, value in _select(tensors, "scalar/").items():
        trainer.scalars[name] = value.to(trainer.scalars[name].device)
    scaler = trainer.accelerator.scaler
    if scaler is not None and counters["scaler"] is not None:
        scaler.load_state_dict(counters["scaler"])
    return counters["step"], _load_curves(counters, tensors, trainer.accelerator.device)


def _list_scalars(trainer: Stateful, curves: Curves) -> dict[str, Mapping[str, Tensor]]:
    return {"scalar": trainer.scalars, "sum": curves.sums, "skipped": curves.skipped}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        tensors, metadata = read_tensors(path), read_metadata(path)
        counters = metadata.get("counters", "")
        if metadata.get("sha256") != _compute_checksum(tensors, counters):
            raise UserError(f"{path}: is not as it was saved")
    except UserError as error:
        raise UserError(f"{error}; without {path} the training begins anew") from error
    return tensors, json.loads(counters)


def _compute_checksum(tensors: Mapping[str, Tensor], counters: str) -> str:
    """Return the sha256 of what a state holds, on whichever device."""
    digest = hashlib.sha256(counters.encode())
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {values.dtype} {list(tensors[name].shape)}".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_curves(
    counters: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> Curves:
    sums, skipped = (
        {name: value.to(device) for name, value in _select(tensors, f"{section}/").items()}
        for section in ("sum", "skipped")
    )
    counts = counters["counts"]
    return Curves(counters["rows"], {name: sums[name] for name in counts}, counts, skipped)


def _load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, entry = key.partition("/")
        state.setdefault(int(index), {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def _select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
