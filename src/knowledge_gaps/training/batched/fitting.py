"""As many instances in one program as the memory holds: halved when it runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import torch

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.training.assignment import Assignment, Group
from knowledge_gaps.training.batched.program import train_together
from knowledge_gaps.training.instance import train_instance
from knowledge_gaps.training.loop import Session
from knowledge_gaps.training.memory import is_shortage

End = Callable[[Assignment, UserError | None], None]


def train_what_fits(group: Group, worker: int, sessions: Mapping[int, Session], end: End) -> None:
    """Train a group together, or its halves one after the other where memory does not suffice.

    What was done until then is lost but for the saved states. An instance that is left alone is
    trained by the usual loop, which says what would fit.

    Args:
        group: of one cohort.
        worker: index of this worker process.
        sessions: by instance.
        end: told of every instance that is finished, or of what made it fail.

    Raises:
        StoppedError: when a session stopped it, after the states were saved.
    """
    left = list(group)

    def note_end(entry: Assignment, error: UserError | None) -> None:
        left.remove(entry)
        end(entry, error)

    if len(group) == 1:
        _train_alone(group[0], worker, sessions, end)
    elif not _fits(group, worker, sessions, note_end):
        gc.collect()  # what the program held that did not fit
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = (len(group) + 1) // 2  # of an instance that has ended nothing is left to train
        for part in (left[:half], left[half:]):
            if part:
                train_what_fits(tuple(part), worker, sessions, end)


def _fits(group: Group, worker: int, sessions: Mapping[int, Session], end: End) -> bool:
    """Train a group together; return False where memory ran out."""
    try:
        train_together(group, worker, sessions, end)
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        return False
    return True


def _train_alone(entry: Assignment, worker: int, sessions: Mapping[int, Session], end: End) -> None:
    """Train an instance by the usual loop; its failure is no other's."""
    session = sessions[entry.task.instance]
    try:
        train_instance(entry.task, worker, entry.result, entry.state_file, session)
    except UserError as error:
        end(entry, error)
    else:
        end(entry, None)
