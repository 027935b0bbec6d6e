"""Which pairs of generator and classifier a reading takes."""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

from knowledge_gaps.core.tables import IN_LOSS, IN_TRAINING


class PairSet(StrEnum):
    """Which pairs of generator and classifier a reading takes."""

    HELD_OUT = "held_out"  # neither was trained with the other
    IN_LOSS = "in_loss"  # the classifier was in the generator's loss
    IN_TRAINING = "in_training"  # the generator was in the classifier's pool

    def select(self, detections: pd.DataFrame) -> pd.Series[bool]:
        """Say of each row of detections.csv whether it belongs to the set."""
        if self is PairSet.HELD_OUT:
            return ~detections[IN_LOSS] & ~detections[IN_TRAINING]
        return detections[IN_LOSS if self is PairSet.IN_LOSS else IN_TRAINING]
