"""MLflow as a view that is rebuilt from files: DVC owns bytes, MLflow shows numbers and names.

Read in this order: `records` says what a run holds, from the files of one trained instance;
`sync` brings MLflow to that state, and does nothing when it is there already; `live` shows a
training while it goes on; `away` spares asking a server that did not answer; `server` is the
only module of the package that imports mlflow, and does so inside functions, so that training
runs where mlflow is not installed.

No result depends on this package: without a server a whole `dvc repro` costs seconds more, and
`kgaps track sync` fills the gap later.
"""

from __future__ import annotations

from knowledge_gaps.tracking.live import CohortTracker, LiveInstance
from knowledge_gaps.tracking.server import tracking_uri
from knowledge_gaps.tracking.sync import SyncReport, sync_cohort, sync_study

__all__ = [
    "CohortTracker",
    "LiveInstance",
    "SyncReport",
    "sync_cohort",
    "sync_study",
    "tracking_uri",
]
