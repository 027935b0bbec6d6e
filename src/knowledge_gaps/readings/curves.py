"""Training curves of the GANs: reading curves.csv, and the means over the instances of a cohort.

Their figure is in `knowledge_gaps.readings.figures.curves`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from knowledge_gaps.core.columns import Cast, read_columns, read_header
from knowledge_gaps.core.layout import CURVES_FILE, get_instance_directory

COHORT = "cohort"
INSTANCE = "instance"
STEP = "step"
LOSS_DISCRIMINATOR = "loss_discriminator"
LOSS_GENERATOR = "loss_generator"
LOSS_FOOLING = "loss_fooling"  # a baseline has none
LOSSES = (LOSS_DISCRIMINATOR, LOSS_GENERATOR, LOSS_FOOLING)
CURVE_COLUMNS = (COHORT, STEP, *LOSSES)
R1_PENALTY = "r1_penalty"


def read_curves(root: Path, cohort: str, num_instances: int) -> pd.DataFrame:
    """Read the training curves of a GAN cohort.

    Args:
        root: of the repository.
        cohort: name of the GAN cohort.
        num_instances: how many instances the study gives it.

    Returns:
        Columns instance, step, the three losses and whatever else was logged; an absent fooling
        loss is NaN.

    Raises:
        UserError: when a file cannot be read or lacks a column.
    """
    frames = []
    for instance in range(num_instances):
        directory = get_instance_directory(root, f"gans/{cohort}", instance)
        frames.append(_read_instance(directory / CURVES_FILE).assign(**{INSTANCE: instance}))
    return pd.concat(frames, ignore_index=True)


def list_scalars(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """List what was logged beside losses and steps, such as lengths of paths, in its order.

    The R1 penalty alone is not listed: it is a part of the discriminator's training that every
    recipe may have, and stands with the others where a generator is regularised too.

    Args:
        curves: as from `read_curves`, by cohort.
    """
    known = {INSTANCE, STEP, *LOSSES}
    found = dict.fromkeys(name for frame in curves.values() for name in frame.columns)
    scalars = [name for name in found if name not in known]
    return [] if set(scalars) <= {R1_PENALTY} else scalars


def average_curves(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Average the losses over the instances of each cohort: a row per cohort and step.

    Args:
        curves: as from `read_curves`, by cohort; without any, the result has no row.
    """
    frames = [
        frame.groupby(STEP, as_index=False)[list(LOSSES)].mean().assign(**{COHORT: cohort})
        for cohort, frame in curves.items()
    ]
    if not frames:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(frames, ignore_index=True)[list(CURVE_COLUMNS)]


def _read_instance(path: Path) -> pd.DataFrame:
    header = read_header(path)
    losses = [name for name in LOSSES if name != LOSS_FOOLING or name in header]
    others = [name for name in header if name not in (STEP, *LOSSES)]
    columns = {STEP: Cast.COUNT, **dict.fromkeys([*losses, *others], Cast.NUMBER)}
    return read_columns(path, columns).reindex(columns=[STEP, *LOSSES, *others])
