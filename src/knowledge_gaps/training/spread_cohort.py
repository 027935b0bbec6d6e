"""A cohort whose instances are spread over ranks, each of which trains some of them on its own.

The ranks share a disk and send each other nothing. Each looks for an instance that is unfinished
and that nobody has claimed, first among its own share (every size-th one), then among all: so a
rank that has no more work takes over what is left, be it of a slow rank or of a dead one. Where
instances train together (`knowledge_gaps.training.batched.choice`), it takes as many as make an
even share. Whoever sees that all are finished puts the cohort together. Ranks may come late, leave,
and come again.

Trainings run in a worker process that this one starts and, should it die, replaces. So this process
runs no tensor operation, and a worker whose rank was killed saves its state and ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from knowledge_gaps.runtime.devices import Rank, forget_rank, is_restart
from knowledge_gaps.runtime.files import write_json
from knowledge_gaps.runtime.launch import Launcher
from knowledge_gaps.runtime.signals import StopFlag, catch_stop_signals
from knowledge_gaps.training.assignment import Assignment, Group
from knowledge_gaps.training.batched.choice import choose_share
from knowledge_gaps.training.claims import is_free
from knowledge_gaps.training.cohort import CohortStates, check_outcome, report_finished
from knowledge_gaps.training.task import TrainingTask
from knowledge_gaps.training.workers import Listener, Outcome, serve_workers

_LOOK_SEC = 0.5  # between two looks for something to do
_CLAIM_SEC = 1.0  # longer than another rank's look takes, which holds the claim too


def train_cohort_spread(
    rank: Rank, tasks: Sequence[TrainingTask], listeners: Sequence[Listener]
) -> None:
    """Train instances of a cohort until all ranks together have finished it.

    Args:
        rank: of this process.
        tasks: of one cohort, all instances, in order.
        listeners: told of the instances that this rank trains, and of what others finished.

    Raises:
        StoppedError: when this rank was told to stop; its state is saved.
        UserError: when an instance failed, on any rank; the others were trained first.
    """
    forget_rank()
    states = CohortStates.of(tasks, _CLAIM_SEC)
    joined = states.join(rank.index, is_restart=is_restart())
    with catch_stop_signals() as flag, joined:
        stop, seen = _RankStop(flag), set[int]()
        share = choose_share(states.assignments, rank.size)
        while not states.is_published():
            finished, waiting = states.split()
            report_finished([e for e in finished if e.task.instance not in seen], listeners)
            seen.update(entry.task.instance for entry in finished)
            failures = states.list_failures()
            left = [entry for entry in waiting if entry.task.instance not in failures]
            if not left:
                check_outcome(Outcome(failures), states.first)
            if not left and states.try_publish():
                break
            if stop.is_set():
                check_outcome(Outcome(stopped=True), states.first)
            group = tuple(islice(_find_free(rank, left), share))
            if not group or not _train(group, listeners, stop, rank.local_index):
                time.sleep(_LOOK_SEC)
    report_finished(states.assignments, listeners)


class _RankStop:
    """Whether this rank is to save its state: it was told to, or its torchrun has gone."""

    def __init__(self, flag: StopFlag) -> None:
        self._flag, self._launcher = flag, Launcher()

    def is_set(self) -> bool:
        return self._flag.is_set() or self._launcher.is_gone()


def _find_free(rank: Rank, entries: Sequence[Assignment]) -> Iterator[Assignment]:
    """Yield instances that nobody trains at this moment, those of a rank's own share first."""
    for entry in sorted(entries, key=lambda e: (e.task.instance - rank.index) % rank.size != 0):
        if entry.directory.exists() and is_free(entry.claim_file):
            yield entry


def _train(group: Group, listeners: Sequence[Listener], stop: _RankStop, index: int) -> bool:
    """Train instances; tell whether this rank got one of them before others did.

    A failure is noted beside the state, where all ranks see it.
    """
    outcome = serve_workers([group], listeners, stop, [index])
    for entry in group:
        if entry.task.instance in outcome.errors:
            write_json(entry.failure_file, {"text": outcome.errors[entry.task.instance]})
    return len(outcome.taken) < len(group)
