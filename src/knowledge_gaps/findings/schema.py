"""The sections of findings.yaml as frozen types: claims, what they select, and thresholds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.statistics.bootstrap import Statistic
from knowledge_gaps.statistics.effects import Over
from knowledge_gaps.statistics.measures import DETECTION_RATE, METRICS
from knowledge_gaps.study import ReportSettings
from knowledge_gaps.study.recipes import Count, Name, Positive, Section

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_OF_CLASSIFIERS = frozenset({"row", "lag", "n", "psi"})  # generators alone have none of these
ITERATIONS = "iterations"
MUTUAL_FOOLING = "mutual_fooling"
ARCHITECTURES = "architectures"
_WITH_SAME = (MUTUAL_FOOLING, ARCHITECTURES)


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

    def contains(self, value: float) -> bool:
        """Say whether a value meets the conditions; `pick` is one on cells, not on a value."""
        return (
            (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.parity is None or value % 2 == (self.parity == "odd"))
        )


def _check_reading(name: str) -> str:
    """Refuse what is no reading of cohorts that a study names."""
    known = [reading for reading in list_readings() if reading in ReportSettings.model_fields]
    if name not in known:
        raise ValueError(f"{name!r} found, one of {', '.join(known)} is needed")
    return name


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

    reading: Annotated[str, AfterValidator(_check_reading)]
    pairs: Annotated[PairSet | None, Field(strict=False)] = None
    where: dict[str, float | Range] = Field(default_factory=dict)
    same: bool | None = None
    statistic: Annotated[Statistic, Field(strict=False)] = Statistic.MEAN
    over: Annotated[Over, Field(strict=False)] = Over.MEAN

    @model_validator(mode="after")
    def _check_coordinates(self) -> Self:
        known = list_readings()[self.reading].coordinates - (
            _OF_CLASSIFIERS if self.pairs is None else set()
        )
        for name, wanted in self.where.items():
            if name not in known:
                what = "generators" if self.pairs is None else "pairs"
                raise ValueError(
                    f"where.{name}: {what} of {self.reading} have no such coordinate "
                    f"(known: {', '.join(sorted(known)) or 'none'})"
                )
            if isinstance(wanted, Range) and wanted.is_empty:
                raise ValueError(f"where.{name}: nothing is from {wanted.min} to {wanted.max}")
        if self.same is not None and self.reading not in _WITH_SAME:
            raise ValueError(
                f"same is {self.same}, but {self.reading} has no clusters or architectures"
            )
        return self


class Threshold(Section):
    """What an effect is compared with: a level and a number of margins of the measure.

    Attributes:
        at: the level.
        margins: added to it, in margins of the measure.
    """

    at: Finite
    margins: Finite = 0.0


class AskedOf(Section):
    """The setting that a claim is about; cells of another one are left out.

    Attributes:
        gan: architecture of the generators; null for any.
        classifier: architecture of the classifiers, or, of generators alone, of those in their
            loss; null for any.
    """

    gan: Name | None = None
    classifier: Name | None = None


class Claim(Section):
    """One hypothesis: left, or left less right, lies beyond a threshold.

    Attributes:
        id: the finding's number and a letter.
        finding: its number among the paper's findings.
        text: the claim in a sentence.
        setting: where the paper found it.
        asked_of: architectures that the claim is about; null for any.
        measure: a column of detections.csv, or of quality.csv by the start of its name.
        left: cells.
        right: cells that are subtracted; null for none.
        direction: where the effect lies; "differs" is beyond the threshold on either side of 0.
        threshold: that the whole interval is beyond.
        needs: other claims that must be supported for this one to be.
        why: reason of selection and threshold, where it is not plain.
        paper: the paper's words and numbers.
    """

    id: Name
    finding: Count
    text: Text
    setting: Text
    asked_of: AskedOf | None = None
    measure: Name
    left: Selection
    right: Selection | None = None
    direction: Literal["above", "below", "differs"]
    threshold: Threshold
    needs: list[Name] = Field(default_factory=list)
    why: Text | None = None
    paper: Text

    @property
    def sides(self) -> list[Selection]:
        """Left, and right where there is one."""
        return [self.left, *([] if self.right is None else [self.right])]

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if self.right is not None:
            for key in ("statistic", "pairs"):
                left, right = getattr(self.left, key), getattr(self.right, key)
                if (left is None) != (right is None) or (key == "statistic" and left != right):
                    raise ValueError(f"left.{key} is {left}, right.{key} is {right}: not one scale")
        for side in self.sides:
            if side.reading == MUTUAL_FOOLING and self.measure != DETECTION_RATE:
                raise ValueError(f"measure is {self.measure}, {side.reading} has {DETECTION_RATE}")
        if self.direction == "differs" and (self.right is None or self.left.over != Over.MEAN):
            raise ValueError("differs needs a right side, and means on both sides")
        return self

    @model_validator(mode="after")
    def _check_measure(self) -> Self:
        of_generators = self.left.pairs is None
        known = METRICS if of_generators else MEASURES
        if self.measure not in known:
            what = "generators" if of_generators else "pairs"
            raise ValueError(f"measure is {self.measure!r}, of {what} there are {', '.join(known)}")
        return self


class PilotSetting(Section):
    """The setting of the pilot study; the page says where a study has another one.

    Attributes:
        dataset: its name.
        gan: architecture of the generators.
        classifier: architecture of the classifiers.
        extractor: of the features of quality; margins of distances are in its units.
    """

    dataset: Name
    gan: Name
    classifier: Name
    extractor: Name


class Pilot(Section):
    """Where the margins come from.

    Attributes:
        study: name of the pilot study.
        setting: its dataset and architectures.
        detections: its rows of detections.csv from which the margins are computed.
        detections_sha256: of that file.
        quality: its rows of quality.csv.
        quality_sha256: of that file.
    """

    study: Name
    setting: PilotSetting
    detections: Text
    detections_sha256: Hash
    quality: Text
    quality_sha256: Hash


class PaperSpread(Section):
    """How the paper's mean ± std is read, which the paper's tables do not say.

    Attributes:
        instances: the spread is that of so many independent numbers; null takes it for the
            standard error itself.
        why: reason of the choice.
    """

    instances: Annotated[int, Field(ge=2)] | None
    why: Text


class Findings(Section):
    """All of findings.yaml.

    Attributes:
        seed: of resamples and permutations.
        num_resamples: of the bootstrap.
        pilot: study that the margins come from.
        margins: by measure, twice the pilot's standard deviation within a cell.
        paper_spread: how the paper's tables are read.
        claims: the hypotheses.
    """

    seed: Annotated[int, Field(ge=0)]
    num_resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    pilot: Pilot
    margins: dict[Name, Positive]
    paper_spread: PaperSpread
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_claims(self) -> Self:
        known: list[str] = []
        for claim in self.claims:
            if claim.id in known:
                raise ValueError(f"claims: {claim.id!r} occurs twice")
            for name in claim.needs:
                if name not in known:
                    raise ValueError(f"claims: {claim.id!r} needs {name!r}, which is not above it")
            if claim.threshold.margins != 0 and claim.measure not in self.margins:
                raise ValueError(
                    f"claims: the threshold of {claim.id!r} is in margins of {claim.measure!r}, "
                    f"which has none (known: {', '.join(sorted(self.margins))})"
                )
            threshold = self.get_threshold(claim)
            if claim.direction == "differs" and threshold < 0:
                raise ValueError(
                    f"claims: the threshold of {claim.id!r} is {threshold:g}, at least 0 is needed "
                    "for 'differs'"
                )
            known.append(claim.id)
        return self

    def get_threshold(self, claim: Claim) -> float:
        """Return the number that the effect of a claim is compared with."""
        margins = claim.threshold.margins
        return claim.threshold.at + (margins * self.margins[claim.measure] if margins else 0.0)
