"""The parent of a cohort's workers: one process a core (or GPU), one thread a process.

The parent hands out instances one by one, or in groups that train together, and listens. It runs no
tensor operation: a clean server process imports torch, once, and the workers are forked from it.
What a worker does is in `knowledge_gaps.training.worker`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Protocol

from knowledge_gaps.runtime.devices import count_workers
from knowledge_gaps.runtime.parallel import start_fork_server
from knowledge_gaps.runtime.signals import StopFlag, catch_stop_signals
from knowledge_gaps.training.batched.choice import form_groups
from knowledge_gaps.training.worker import Assignment, Group, Message, MessageKind, run_worker

_PRELOAD = ("knowledge_gaps.training.instance", "accelerate")
_POLL_SEC = 0.5


class Listener(Protocol):
    """Who is told what happens to the instances."""

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """Take note of an instance's progress, and of the newest row of its curves if any."""
        ...


@dataclass
class Outcome:
    """What training a cohort came to.

    Attributes:
        errors: what failed, one line, by instance.
        stopped: the training was told to stop; all states are saved.
    """

    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False


def run_workers(assignments: Sequence[Assignment], listeners: Sequence[Listener]) -> Outcome:
    """Train instances side by side.

    Args:
        assignments: at least one.
        listeners: told of every instance's progress.
    """
    outcome, waiting = Outcome(), deque(form_groups(assignments))
    num_workers = count_workers(len(waiting))
    with catch_stop_signals() as stop:
        context = start_fork_server(_PRELOAD)
        workers = [_start_worker(context, index) for index in range(num_workers)]
        _serve(workers, waiting, outcome, listeners, stop)
    return outcome


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    instances: set[int] = field(default_factory=set)  # what it is training now


def _start_worker(context: ForkServerContext, index: int) -> _Worker:
    connection, far_end = context.Pipe()
    process = context.Process(target=run_worker, args=(index, far_end), daemon=True)
    process.start()
    far_end.close()
    return _Worker(process, connection)


def _serve(
    workers: list[_Worker],
    waiting: deque[Group],
    outcome: Outcome,
    listeners: Sequence[Listener],
    stop: StopFlag,
) -> None:
    """Hand out groups and listen until every worker has ended."""
    for worker in workers:
        _assign(worker, waiting)
    told_to_stop = False
    while workers:
        ready = wait([worker.connection for worker in workers], timeout=_POLL_SEC)
        for worker in [worker for worker in workers if worker.connection in ready]:
            try:
                message: Message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                workers.remove(worker)
                _note_end(worker, outcome)
                continue
            _take_note(message, outcome, listeners)
            if message.kind is not MessageKind.PROGRESS:
                worker.instances.discard(message.instance)
                if not worker.instances:
                    _assign(worker, waiting)
        if stop.is_set() and not told_to_stop:
            told_to_stop = True
            waiting.clear()
            outcome.stopped = True
            for worker in workers:
                _send(worker, None)


def _assign(worker: _Worker, waiting: deque[Group]) -> None:
    group = waiting.popleft() if waiting else None
    worker.instances = {entry.task.instance for entry in group or ()}
    _send(worker, group)


def _send(worker: _Worker, group: Group | None) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended; `recv` will tell
        worker.connection.send(group)


def _take_note(message: Message, outcome: Outcome, listeners: Sequence[Listener]) -> None:
    if message.kind is MessageKind.PROGRESS:
        for listener in listeners:
            listener.report(message.instance, message.step, message.row)
    elif message.kind is MessageKind.FAILED:
        outcome.errors[message.instance] = message.text


def _note_end(worker: _Worker, outcome: Outcome) -> None:
    worker.process.join()
    for instance in sorted(worker.instances) if not outcome.stopped else ():
        outcome.errors.setdefault(
            instance,
            f"its process ended by itself (exit code {worker.process.exitcode}; -9 is often too "
            "little memory); the same command resumes",
        )
