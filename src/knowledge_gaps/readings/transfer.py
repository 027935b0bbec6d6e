"""The transfer of fooling from the classifiers in the loss to held-out ones of their cohort."""

from __future__ import annotations

from typing import Any

from knowledge_gaps.readings.cohorts import list_fooling
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.readings.transfers import TRANSFER
from knowledge_gaps.study import Study


class Transfer(Reading):
    """Every GAN cohort that fools classifiers: in the loss, held out, and how far one reaches."""

    name, title, position = "transfer", "Transfer", 65

    def is_asked(self, study: Study) -> bool:
        return bool(list_fooling(study))

    def read(self, results: Results) -> Any:
        """Return a row for each GAN cohort and classifier cohort that it fools: two cells."""
        return [
            {"held_out": held_out, "in_loss": results.find(PairSet.IN_LOSS, *cohorts[::-1])}
            for cohorts in results.transfers
            if (held_out := results.find(PairSet.HELD_OUT, *cohorts[::-1])) is not None
        ]

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        cells = [row["held_out"] for row in content]
        names = [cell["generator_cohort"] for cell in cells]
        if len(set(names)) < len(names):
            names = [f"{cell['classifier_cohort']} on {cell['generator_cohort']}" for cell in cells]
        return {self.name: {n: cell[TRANSFER] for n, cell in zip(names, cells, strict=True)}}
