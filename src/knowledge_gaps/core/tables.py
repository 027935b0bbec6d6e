"""Tables: CSV whose bytes depend on the numbers alone, read with every value checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import pandas as pd

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_text

SIX_DECIMALS = "{:z.6f}"  # z: a number just below 0 is no "-0.000000"
SIX_DIGITS = "{:.6g}"  # for numbers of several orders of magnitude

# columns that several tables share
GENERATOR_COHORT = "generator_cohort"
GENERATOR_CHAIN = "generator_chain"
GENERATOR_INSTANCE = "generator_instance"  # its index in the chain
CLASSIFIER_COHORT = "classifier_cohort"
CLASSIFIER_CHAIN = "classifier_chain"
CLASSIFIER_INSTANCE = "classifier_instance"
IN_LOSS = "in_loss"
IN_TRAINING = "in_training"
NUM_IMAGES = "num_images"
PHI = "phi"
JUDGE = "judge"
POOL = "pool"
PERTURBATION = "perturbation"
CONTROL = "control"
DISTORTION = "distortion"
GANS = "gans"
MEAN_CHANGE = "mean_change"


class Cast(StrEnum):
    """Type of a column, in the words of an error."""

    NAME = "a name"
    COUNT = "a whole number"
    FLAG = "true or false"
    SHARE = "a number in [0, 1] or nothing"
    NUMBER = "a number or nothing"


_DTYPES = {Cast.NAME: "str", Cast.COUNT: "int64", Cast.FLAG: "bool"}  # others are float64


def write_table(path: Path, table: pd.DataFrame, float_format: str = SIX_DECIMALS) -> None:
    """Write a table without its index as CSV; NaN becomes nothing."""
    write_text(path, format_table(table, float_format))


def format_table(table: pd.DataFrame, float_format: str = SIX_DECIMALS) -> str:
    """Write a table as CSV text, as `write_table` does."""
    return table.to_csv(index=False, float_format=float_format.format, lineterminator="\n")


def read_header(path: Path) -> tuple[str, ...]:
    """Read the names of the columns; raises UserError when the file cannot be read as CSV."""
    return tuple(str(name) for name in _read_text(path).columns)


def read_columns(path: Path, columns: Mapping[str, Cast]) -> pd.DataFrame:
    """Read columns of a CSV file by name and type; raises UserError for what does not fit."""
    text = _read_text(path)
    for name in columns:
        if name not in text.columns:
            found = ", ".join(text.columns)
            raise UserError(f"{path}: column {name!r} is missing (found: {found})")
    return pd.DataFrame(
        {name: _cast_column(path, text[name], cast) for name, cast in columns.items()}
    )


def check_unique(path: Path, frame: pd.DataFrame, keys: Sequence[str]) -> None:
    """Refuse a table with two rows of the same values in the key columns, by a UserError."""
    twice = frame[frame.duplicated(list(keys))]
    if len(twice) > 0:
        found = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
        raise UserError(f"{path}: {found}: the row is there twice")


def _read_text(path: Path) -> pd.DataFrame:
    """Read a CSV file with every value as the text that it is."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # the parser's errors are ValueErrors
        raise UserError(f"{path}: not valid CSV ({' '.join(str(error).split())})") from error


def _cast_column(path: Path, column: pd.Series[str], cast: Cast) -> pd.Series[float]:
    values = [_cast_value(text, cast) for text in column]
    if None in values:
        index = values.index(None)
        raise UserError(
            f"{path}: column {column.name!r}, line {index + 2}: found {column.iloc[index]!r}, "
            f"{cast.value} is needed"
        )
    return pd.Series(values, dtype=_DTYPES.get(cast, "float64"))


def _cast_value(text: str, cast: Cast) -> str | int | bool | float | None:
    """Read one value; None when it is not of the type."""
    if cast is Cast.NAME:
        return text or None
    if cast is Cast.FLAG:
        return {"true": True, "false": False}.get(text.lower())
    if cast is Cast.COUNT:
        return int(text) if text.isdecimal() else None
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    if not math.isfinite(number):
        return math.nan  # as good as nothing
    return None if cast is Cast.SHARE and not 0 <= number <= 1 else number
