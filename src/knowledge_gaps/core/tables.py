"""Writing the tables of reports/: CSV whose bytes depend on the numbers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_gaps.core.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SIX_DECIMALS = "{:z.6f}"  # z: a number just below 0 is no "-0.000000"
SIX_DIGITS = "{:.6g}"  # for numbers of several orders of magnitude


def write_table(path: Path, table: pd.DataFrame, float_format: str = SIX_DECIMALS) -> None:
    """Write a table as CSV; NaN becomes nothing.

    Args:
        path: of the file.
        table: without its index.
        float_format: of every float, for `str.format`.

    Raises:
        UserError: when the file cannot be written.
    """
    write_text(path, format_table(table, float_format))


def format_table(table: pd.DataFrame, float_format: str = SIX_DECIMALS) -> str:
    """Write a table as CSV text, as `write_table` does."""
    return table.to_csv(index=False, float_format=float_format.format, lineterminator="\n")
