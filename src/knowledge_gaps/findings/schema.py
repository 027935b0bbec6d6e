"""findings.yaml as frozen types: claims, what they select, and thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, ValidationError, model_validator

from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.readings.transfers import TRANSFER
from knowledge_gaps.statistics.chains import Over, Statistic
from knowledge_gaps.statistics.measures import (
    DETECTION_RATE,
    JUDGE_BEST_AUC,
    LOSS_DISCRIMINATOR,
    METRICS,
)
from knowledge_gaps.study import ReportSettings, read_yaml
from knowledge_gaps.study.recipes import Count, Name, Positive, Section

FINDINGS_FILE = "findings.yaml"

Text = Annotated[str, Field(min_length=1)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_OF_CLASSIFIERS = frozenset({"row", "lag", "n", "psi"})  # generators alone have none of these
ITERATIONS = "iterations"
MUTUAL_FOOLING = "mutual_fooling"
ARCHITECTURES = "architectures"
OF_COHORTS = (TRANSFER, JUDGE_BEST_AUC)  # measures of held-out classifiers as a cohort
_WITH_SAME = (MUTUAL_FOOLING, ARCHITECTURES)


def _widen(wanted: Any) -> Any:
    """Make a list of a single number."""
    return [wanted] if isinstance(wanted, (int, float)) else wanted


Values = Annotated[list[FiniteFloat], BeforeValidator(_widen), Field(min_length=1)]


class Selection(Section):
    """Some cells, and how they become one number.

    The coordinates of iterations are row (of the classifiers), column (of the GANs) and lag
    (column - row); others are phi, n (generators trained on), t (classifiers in the loss) and psi
    (truncation).
    """

    reading: str  # where the cells come from
    # which pairs of a cell count; null for a measure of generators alone
    pairs: Annotated[PairSet | None, Field(strict=False)] = None
    # by coordinate, a value or several, for each of which there must be a cell: so a cohort more in
    # the study changes no verdict
    where: dict[str, Values] = Field(default_factory=dict)
    # whether classifier and in-loss classifier are of one cluster (mutual_fooling) or of one
    # architecture (architectures); null for both
    same: bool | None = None
    statistic: Annotated[Statistic, Field(strict=False)] = Statistic.MEAN  # of the pairs of a cell
    over: Annotated[Over, Field(strict=False)] = Over.MEAN  # of the cells

    @model_validator(mode="after")
    def _check_coordinates(self) -> Self:
        readings = [name for name in list_readings() if name in ReportSettings.model_fields]
        if self.reading not in readings:
            needed = f"one of {', '.join(readings)} is needed"
            raise ValueError(f"reading: {self.reading!r} found, {needed}")
        left_out = _OF_CLASSIFIERS if self.pairs is None else set()
        known = list_readings()[self.reading].coordinates - left_out
        if unknown := [name for name in self.where if name not in known]:
            words = f"{'generators' if self.pairs is None else 'pairs'} of {self.reading}"
            raise ValueError(
                f"where.{unknown[0]}: {words} have no such coordinate "
                f"(known: {', '.join(sorted(known)) or 'none'})"
            )
        if self.same is not None and self.reading not in _WITH_SAME:
            raise ValueError(f"same: {self.reading} has no clusters or architectures")
        return self


class Bounds(Section):
    """What the classifiers in the loss of GANs may reach at most, for these to count as fooling."""

    detection_rate: Annotated[float, Field(gt=0, lt=1)]
    auc: Annotated[float, Field(gt=0, lt=1)]


class Threshold(Section):
    """What an effect is compared with: a level, and a number of margins of the measure."""

    at: FiniteFloat
    margins: FiniteFloat = 0.0


class AskedOf(Section):
    """The architectures that a claim is about, null for any; cells of others are left out.

    The classifier of generators alone is the one in their loss.
    """

    gan: Name | None = None
    classifier: Name | None = None


class Question(Section):
    """An effect: left, or left less right."""

    id: Name
    text: Text  # in a sentence
    asked_of: AskedOf = AskedOf()
    # a column of detections.csv, or of quality.csv by the start of its name; transfer and
    # judge_best_auc are of two cohorts, loss_discriminator is of GANs, at the end of their training
    measure: Name
    left: Selection
    right: Selection | None = None

    @property
    def sides(self) -> list[Selection]:
        """Left, and right where there is one."""
        return [self.left, *([] if self.right is None else [self.right])]

    @model_validator(mode="after")
    def _check_measure(self) -> Self:
        if self.right is not None:
            for key in ("statistic", "pairs"):
                left, right = getattr(self.left, key), getattr(self.right, key)
                if (left is None) != (right is None) or (key == "statistic" and left != right):
                    raise ValueError(f"left.{key} is {left}, right.{key} is {right}: not one scale")
        if self.measure != DETECTION_RATE and MUTUAL_FOOLING in {x.reading for x in self.sides}:
            raise ValueError(f"measure is {self.measure}, {MUTUAL_FOOLING} has {DETECTION_RATE}")
        pairs = {side.pairs for side in self.sides}
        if self.measure in OF_COHORTS and pairs != {PairSet.HELD_OUT}:
            raise ValueError(f"measure is {self.measure}, which is of held_out pairs alone")
        what, known = "pairs", (*MEASURES, *OF_COHORTS)
        if self.left.pairs is None:
            what, known = "generators", (*METRICS, LOSS_DISCRIMINATOR)
        if self.measure not in known:
            raise ValueError(f"measure is {self.measure!r}, of {what} there are {', '.join(known)}")
        return self


class Anchor(Question):
    """A mark of the paper's regime: the mean over chains of an effect lies within bounds.

    None is of held-out classifiers on GANs that fool one: what the claims ask must not choose the
    setting that they are asked in.
    """

    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("at_least: nothing found, it or at_most is needed")
        return self


class Claim(Question):
    """One hypothesis: an effect lies beyond a threshold with its whole interval.

    Its id is the finding's number and a letter.
    """

    finding: Count  # its number among the paper's findings
    setting: Text  # where the paper found it
    # "differs" is on either side of 0; "equals" means that every left cell is within the threshold
    # of the mean of the right ones
    direction: Literal["above", "below", "differs", "equals"]
    threshold: Threshold
    # whose GANs must fool the classifiers in their own loss, else the claim is void; so it is where
    # an anchor is not reached
    fooled: Literal["left", "right", "both"] | None = None
    needs: list[Name] = Field(default_factory=list)  # claims that must be supported as well
    why: Text | None = None  # reason of selection and threshold, where it is not plain
    paper: Text  # the paper's words and numbers

    @model_validator(mode="after")
    def _check_direction(self) -> Self:
        is_two_sided = self.direction in ("differs", "equals")
        if is_two_sided and (self.right is None or {x.over for x in self.sides} != {Over.MEAN}):
            raise ValueError(f"{self.direction} needs a right side, and means on both sides")
        return self


class PilotSetting(Section):
    """The setting of the pilot study; the page says where a study has another one."""

    dataset: Name
    gan: Name
    classifier: Name
    extractor: Name  # in units of whose features the margins of distances are


class Pilot(Section):
    """The study that the margins come from, with the rows that they are computed from."""

    study: Name
    setting: PilotSetting
    detections: Text  # file with its rows of detections.csv
    detections_sha256: Hash
    quality: Text  # likewise
    quality_sha256: Hash


class PaperSpread(Section):
    """How the paper's mean ± std is read, which the paper's tables do not say."""

    # the spread is that of so many independent instances; null takes it for the standard error
    instances: Annotated[int, Field(ge=2)] | None
    why: Text


class Findings(Section):
    """All of findings.yaml."""

    seed: Annotated[int, Field(ge=0)]  # of permutations
    pilot: Pilot
    margins: dict[Name, Positive]  # by measure, twice the pilot's standard deviation within a cell
    paper_spread: PaperSpread
    fooled: Bounds  # of a claim's GANs, see there
    anchors: list[Anchor] = Field(default_factory=list)  # in the pilot's setting
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_claims(self) -> Self:
        known: list[str] = []
        for claim in self.claims:
            if claim.id in known:
                raise ValueError(f"claims: {claim.id!r} occurs twice")
            if missing := [name for name in claim.needs if name not in known]:
                raise ValueError(f"claims: {claim.id!r} needs {missing[0]!r}, not above it")
            words = f"claims: the threshold of {claim.id!r} is"
            if claim.threshold.margins != 0 and claim.measure not in self.margins:
                names = ", ".join(sorted(self.margins))
                raise ValueError(
                    f"{words} in margins of {claim.measure!r}, which has none (known: {names})"
                )
            threshold = self.get_threshold(claim)
            if claim.direction in ("differs", "equals") and threshold < 0:
                raise ValueError(f"{words} {threshold:g}, at least 0 is needed for a two-sided one")
            known.append(claim.id)
        return self

    def get_threshold(self, claim: Claim) -> float:
        """Return the number that the effect of a claim is compared with."""
        margins = claim.threshold.margins
        return claim.threshold.at + (margins * self.margins[claim.measure] if margins else 0.0)


def load_findings(path: Path) -> Findings:
    """Read the claims and their thresholds.

    Raises:
        UserError: one line that names the file, the key, what was found and what is allowed.
    """
    try:
        return Findings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path.name}: {describe_first_error(error, Findings)}") from error
