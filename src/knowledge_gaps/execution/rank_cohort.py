"""A cohort whose instances are trained one after the other, each by all ranks together.

This process is one of the ranks. Rank 0 alone holds the cohort's lock, saves, reports and
publishes; the others wait for it where they must, and fail where it fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import Rank, keep_freed_memory
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.assignment import Assignment
from knowledge_gaps.execution.cohort import CohortStates, check_outcome, report_finished
from knowledge_gaps.execution.launch import Launcher
from knowledge_gaps.execution.signals import StopFlag, catch_stop_signals
from knowledge_gaps.execution.task import TrainingTask
from knowledge_gaps.execution.workers import Listener, Outcome
from knowledge_gaps.training.instance import train_instance
from knowledge_gaps.training.loop import DivergedError
from knowledge_gaps.training.ranks import Ranks, join_ranks
from knowledge_gaps.training.sizes import check_shares


def train_cohort_as_rank(
    rank: Rank, tasks: Sequence[TrainingTask], listeners: Sequence[Listener]
) -> None:
    """Train all instances of a cohort, as one of several ranks, and publish its directory.

    Args:
        rank: of this process.
        tasks: of one cohort, all instances, in order.
        listeners: told of every instance's progress; of rank 0 alone.

    Raises:
        StoppedError: when any rank was told to stop; the state is saved.
        UserError: when an instance failed. After one that diverged the others were trained first.
    """
    check_shares(tasks[0].recipe, rank.size)
    configure_process()
    keep_freed_memory()
    states = CohortStates.of(tasks)
    with join_ranks(rank) as ranks, catch_stop_signals() as stop, ExitStack() as stack:
        _check_tasks(ranks, tasks)
        ranks.run_on_main(lambda: stack.enter_context(states.hold()))
        outcome, launcher = Outcome(), Launcher()
        for entry in _list_waiting(ranks, states, listeners):
            if not outcome.stopped:
                session = _RankSession(entry.task.instance, listeners, stop, launcher)
                _train(entry, rank, ranks, session, outcome)
        check_outcome(outcome, states.first)
        ranks.run_on_main(states.publish)


class _RankSession:
    """A `loop.Session` of one rank; the loop lets the ranks agree on what it says."""

    def __init__(
        self, instance: int, listeners: Sequence[Listener], stop: StopFlag, launcher: Launcher
    ) -> None:
        self._instance, self._listeners = instance, listeners
        self._stop, self._launcher = stop, launcher

    def is_stopping(self) -> bool:
        return self._stop.is_set() or self._launcher.is_gone()

    def report(self, step: int, row: dict[str, float] | None) -> None:
        for listener in self._listeners:
            listener.report(self._instance, step, row)


def _check_tasks(ranks: Ranks, tasks: Sequence[TrainingTask]) -> None:
    """Check that this rank would train the same: hosts may differ in code, data and pool."""
    identities = json.dumps([task.compute_identity() for task in tasks])
    if ranks.share_text(identities) != identities:
        raise UserError(
            f"{tasks[0].cohort_path}: this host has other code, data, params.yaml or pool than "
            "that of rank 0"
        )


def _list_waiting(
    ranks: Ranks, states: CohortStates, listeners: Sequence[Listener]
) -> list[Assignment]:
    """List what is still to train, by what lies on the disk of rank 0."""
    finished, waiting = states.split()
    report_finished(finished, listeners)
    instances = json.loads(ranks.share_text(json.dumps([e.task.instance for e in waiting])))
    return [entry for entry in states.assignments if entry.task.instance in instances]


def _train(
    entry: Assignment, rank: Rank, ranks: Ranks, session: _RankSession, outcome: Outcome
) -> None:
    """Train one instance; what all ranks learn of together goes into the outcome."""
    try:
        with ExitStack() as stack:
            ranks.run_on_main(lambda: stack.enter_context(entry.claim()))
            train_instance(entry.task, rank.local_index, entry.result, entry.state_file, session)
    except StoppedError:
        outcome.stopped = True
    except DivergedError as error:
        outcome.errors[entry.task.instance] = str(error)
    except UserError as error:
        raise UserError(f"{entry.task.cohort_path}/{entry.task.instance}: {error}") from error
