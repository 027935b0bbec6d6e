"""The parent of a cohort's workers: one process a core (or GPU), one thread a process.

The parent hands out instances one by one, or in groups that train together, and listens. It runs no
tensor operation: a clean server process imports torch, once, and the workers are forked from it. A
worker that dies is replaced, and its instances resume. What a worker does is in
`knowledge_gaps.execution.worker`.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Protocol

from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.execution.assignment import Assignment, Group
from knowledge_gaps.execution.parallel import start_fork_server
from knowledge_gaps.execution.signals import catch_stop_signals
from knowledge_gaps.execution.worker import Message, MessageKind, run_worker

# what trainings import beside their own code; a first optimizer imports torch._dynamo
PRELOAD = ("knowledge_gaps.training.instance", "accelerate", "torch._dynamo")
_POLL_SEC = 0.5
_MOST_DEATHS = 2  # over one instance on its own, after which another worker resumes it


class Listener(Protocol):
    """Who is told what happens to the instances."""

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """Take note of an instance's progress, and of the newest row of its curves if any."""
        ...


class Stop(Protocol):
    """Who says that the training is to stop."""

    def is_set(self) -> bool:
        """Tell whether all states are to be saved now."""
        ...


@dataclass
class Outcome:
    """What training a cohort came to.

    Attributes:
        errors: what failed, one line, by instance.
        taken: instances that another process has, with a line that says so.
        stopped: the training was told to stop; all states are saved.
    """

    errors: dict[int, str] = field(default_factory=dict)
    taken: dict[int, str] = field(default_factory=dict)
    stopped: bool = False


def run_workers(assignments: Sequence[Assignment], listeners: Sequence[Listener]) -> Outcome:
    """Train instances side by side.

    Args:
        assignments: at least one.
        listeners: told of every instance's progress.
    """
    with catch_stop_signals() as stop:
        groups = [(entry,) for entry in assignments]
        return serve_workers(groups, listeners, stop, range(count_workers(len(groups))))


def serve_workers(
    groups: Sequence[Group],
    listeners: Sequence[Listener],
    stop: Stop,
    indices: Sequence[int],
) -> Outcome:
    """Train instances side by side until all are trained, or all states saved.

    Args:
        groups: at least one; the instances of one train together.
        listeners: told of every instance's progress.
        stop: asked twice a second.
        indices: a worker is started for each; they decide the GPUs.
    """
    outcome, waiting, deaths = Outcome(), deque(groups), Counter[int]()
    # all of the code, so that a worker that starts later runs what the first ones did
    context = start_fork_server(PRELOAD)
    workers = [_start_worker(context, index) for index in indices]
    for worker in workers:
        _assign(worker, waiting)
    while workers:
        ready = wait([worker.connection for worker in workers], timeout=_POLL_SEC)
        for worker in [worker for worker in workers if worker.connection in ready]:
            try:
                message: Message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                workers.remove(worker)
                worker.process.join()
                if worker.group and not outcome.stopped:
                    _note_death(worker, waiting, outcome, deaths)
                    workers.append(_start_worker(context, worker.index))
                    _assign(workers[-1], waiting)
                continue
            _take_note(message, outcome, listeners)
            if message.kind is not MessageKind.PROGRESS and worker.finish(message.instance):
                _assign(worker, waiting)
        if stop.is_set() and not outcome.stopped:
            outcome.stopped = True
            waiting.clear()
            for worker in workers:
                _send(worker, None)
    return outcome


@dataclass
class _Worker:
    index: int
    process: BaseProcess
    connection: Connection
    group: Group = ()  # what it is training now

    def finish(self, instance: int) -> bool:
        """Take an instance off the group; tell whether nothing is left of it."""
        self.group = tuple(entry for entry in self.group if entry.task.instance != instance)
        return not self.group


def _start_worker(context: ForkServerContext, index: int) -> _Worker:
    connection, far_end = context.Pipe()
    process = context.Process(target=run_worker, args=(index, far_end), daemon=True)
    process.start()
    far_end.close()
    return _Worker(index, process, connection)


def _assign(worker: _Worker, waiting: deque[Group]) -> None:
    worker.group = waiting.popleft() if waiting else ()
    _send(worker, worker.group or None)


def _send(worker: _Worker, group: Group | None) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended; `recv` will tell
        worker.connection.send(group)


def _take_note(message: Message, outcome: Outcome, listeners: Sequence[Listener]) -> None:
    if message.kind is MessageKind.PROGRESS:
        for listener in listeners:
            listener.report(message.instance, message.step, message.row)
    elif message.kind is MessageKind.FAILED:
        outcome.errors[message.instance] = message.text
    elif message.kind is MessageKind.TAKEN:
        outcome.taken[message.instance] = message.text


def _note_death(
    worker: _Worker, waiting: deque[Group], outcome: Outcome, deaths: Counter[int]
) -> None:
    """Put back what a worker was training when it died, to be resumed, unless it died too often.

    Instances that trained together come back in two groups, for that needs less memory; which of
    them the worker died of is known, and counted, only where it trained one.
    """
    group = worker.group
    text = f"its process ended by itself (exit code {worker.process.exitcode}; -9 is often too "
    if len(group) == 1:
        task = group[0].task
        deaths[task.instance] += 1
        if deaths[task.instance] > _MOST_DEATHS:
            often = f"little memory), {_MOST_DEATHS} times before too; the same command resumes"
            outcome.errors.setdefault(task.instance, text + often)
            return
    for entry in group:
        name = f"{entry.task.cohort_path}/{entry.task.instance}"
        print(f"{name}: {text}little memory); resumed", file=sys.stderr)
    half = (len(group) + 1) // 2
    waiting.extendleft(part for part in (group[half:], group[:half]) if part)
