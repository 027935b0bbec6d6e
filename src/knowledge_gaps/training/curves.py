"""Curves of a training: means of the logged scalars between two rows, and their CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Row = dict[str, float]


@dataclass
class Curves:
    """Means of the logged scalars over every `log_every` steps.

    Attributes:
        rows: finished rows, each with "step" first.
        sums: of the scalars since the last row, float64.
        counts: how often each was logged since; a lazy regulariser's is not at every step.
        skipped: of these, how many were not finite and are in no sum, float64; only under a loss
            scaler, which lets such steps change nothing.
    """

    rows: list[Row] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, Tensor] = field(default_factory=dict)

    def add(self, losses: dict[str, Tensor], skips_non_finite: bool = False) -> None:
        """Add one step's scalars.

        Args:
            losses: scalars by name.
            skips_non_finite: leave out those that are not finite, without waiting for the device.
        """
        for name, value in losses.items():
            value = value.double()
            if skips_non_finite:
                is_finite = torch.isfinite(value)
                self._accumulate(self.skipped, name, (~is_finite).double())
                value = torch.where(is_finite, value, 0.0)
            self._accumulate(self.sums, name, value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_row(self, step: int) -> Row:
        """Turn the sums into a row that ends after `step` steps; nan where all were skipped."""
        row = {"step": float(step)}
        for name, total in self.sums.items():
            skipped = self.skipped.get(name)
            count = self.counts[name] - (0 if skipped is None else int(skipped.item()))
            row[name] = total.item() / count if count > 0 else math.nan
        self.rows.append(row)
        self.sums, self.counts, self.skipped = {}, {}, {}
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

    @staticmethod
    def _accumulate(totals: dict[str, Tensor], name: str, value: Tensor) -> None:
        total = totals.get(name)
        totals[name] = value if total is None else total + value
