"""What a claim of findings.yaml selects: cells of a reading, and how they become one number.

The claims themselves are in `knowledge_gaps.findings.schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.places import COORDINATES, Reading
from knowledge_gaps.statistics.bootstrap import Statistic
from knowledge_gaps.statistics.extremes import Over
from knowledge_gaps.study.recipes import Section

Finite = Annotated[float, Field(allow_inf_nan=False)]


_OF_CLASSIFIERS = frozenset({"row", "lag", "n", "psi"})  # generators alone have none of these
_WITH_KINSHIP = (Reading.MUTUAL_FOOLING, Reading.ARCHITECTURES)


class Range(Section):
    """Which values of a coordinate are taken: all conditions hold at once.

    Attributes:
        min: the smallest.
        max: the largest.
        parity: of a whole number.
        pick: of the cells that are left, those with the smallest or largest value.
    """

    min: Finite | None = None
    max: Finite | None = None
    parity: Literal["even", "odd"] | None = None
    pick: Literal["smallest", "largest"] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no value can lie in it."""
        return self.min is not None and self.max is not None and self.min > self.max


class Selection(Section):
    """Some cells, and how they become one number.

    Attributes:
        reading: where the cells come from.
        pairs: which pairs of a cell count; null for a measure of generators alone.
        where: by coordinate, a value or a range. Iterations: row (of the classifiers), column (of
            the GANs), lag (column - row); phi; n (generators trained on); t (classifiers in the
            loss); psi (truncation).
        same: whether classifier and in-loss classifier are of one cluster (mutual_fooling) or of
            one architecture (architectures); null for both.
        statistic: of the pairs of a cell.
        over: of the cells.
    """

    reading: Annotated[Reading, Field(strict=False)]
    pairs: Annotated[PairSet | None, Field(strict=False)] = None
    where: dict[str, float | Range] = Field(default_factory=dict)
    same: bool | None = None
    statistic: Annotated[Statistic, Field(strict=False)] = Statistic.MEAN
    over: Annotated[Over, Field(strict=False)] = Over.MEAN

    @model_validator(mode="after")
    def _check_coordinates(self) -> Self:
        known = COORDINATES[self.reading]
        if self.pairs is None:
            known = known - _OF_CLASSIFIERS
        for name in self.where:
            if name not in known:
                what = "generators" if self.pairs is None else "pairs"
                raise ValueError(
                    f"where.{name}: {what} of {self.reading} have no such coordinate "
                    f"(known: {', '.join(sorted(known)) or 'none'})"
                )
        for name, wanted in self.where.items():
            if isinstance(wanted, Range) and wanted.is_empty:
                raise ValueError(f"where.{name}: nothing lies from {wanted.min} to {wanted.max}")
        if self.same is not None and self.reading not in _WITH_KINSHIP:
            raise ValueError(
                f"same is {self.same}, but {self.reading} has no clusters or architectures"
            )
        return self
