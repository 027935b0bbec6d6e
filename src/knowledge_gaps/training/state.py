"""The state of a training: its curves, and a file with all that its next step depends on.

The file has its own checksum: an altered state would end in weights that no run can repeat.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from knowledge_gaps.core.checkpoint import read_metadata, read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.training.task import Row
from knowledge_gaps.training.trainer import Trainer


@dataclass
class Curves:
    """Means of the logged scalars over every `log_every` steps."""

    rows: list[Row] = field(default_factory=list)  # finished
    sums: dict[str, Tensor] = field(default_factory=dict)  # since the last row, float64
    counts: dict[str, int] = field(default_factory=dict)  # less often for a lazy regulariser

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.double()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_row(self, step: int) -> Row:
        """Turn the sums into a row that ends after `step` steps."""
        means = {name: total.item() / self.counts[name] for name, total in self.sums.items()}
        row = {"step": float(step), **means}
        self.rows.append(row)
        self.sums, self.counts = {}, {}
        return row

    def to_csv(self) -> str:
        """Render the rows; a scalar that a row lacks (a lazy regulariser's) stays empty."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [names]
        for row in self.rows:
            texts = {name: f"{value:.6g}" for name, value in row.items()}
            texts["step"] = f"{row['step']:.0f}"
            lines.append([texts.get(name, "") for name in names])
        return "".join(",".join(line) + "\n" for line in lines)


def collect_state(trainer: Trainer, curves: Curves) -> dict[str, Tensor]:
    """Collect, by name, the tensors that the next step depends on."""
    sections: dict[str, Mapping[str, Tensor]] = {
        **{f"module/{name}": module.state_dict() for name, module in trainer.modules.items()},
        "scalar": trainer.scalars,
        "sum": curves.sums,
    }
    for name, optimizer in trainer.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            sections[f"optimizer/{name}/{index}"] = entries
    return {f"{key}/{name}": value for key in sections for name, value in sections[key].items()}


def write_state(path: Path, tensors: dict[str, Tensor], counters: str) -> None:
    """Write tensors and a JSON text of counters with their checksum; raises UserError."""
    checksum = _compute_checksum(tensors, counters)
    write_tensors(path, tensors, {"counters": counters, "sha256": checksum})


def load_state(trainer: Trainer, path: Path) -> tuple[int, Curves]:
    """Restore what rank 0 saved, if it did; return the steps made and the curves."""
    ranks, device = trainer.ranks, trainer.accelerator.device
    if not ranks.agree(ranks.is_main and path.exists()):
        return 0, Curves()
    tensors, counters = ranks.share(_read(path) if ranks.is_main else None)
    for name, module in trainer.modules.items():
        module.load_state_dict(_select(tensors, f"module/{name}/"), strict=True)
    for name, optimizer in trainer.optimizers.items():
        _load_optimizer(optimizer, _select(tensors, f"optimizer/{name}/"))
    for name, value in _select(tensors, "scalar/").items():
        trainer.scalars[name] = value.to(trainer.scalars[name].device)
    counts = counters["counts"]
    sums = {name: tensors[f"sum/{name}"].to(device) for name in counts}
    return counters["step"], Curves(counters["rows"], sums, counts)


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
    stored = {name: tensors[name].detach().cpu().contiguous() for name in tensors}
    return hashlib.sha256(save(stored, {"counters": counters})).hexdigest()


def _load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    indices = {int(key.partition("/")[0]) for key in tensors}
    state = {index: _select(tensors, f"{index}/") for index in indices}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
