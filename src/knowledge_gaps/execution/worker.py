"""A worker process: trains one group of instances after the other until it is given none.

A group is one instance, or several that train together as one batched program
(`knowledge_gaps.training.batched`). Parent and worker talk over one pipe: groups (or None: save and
end) one way, messages the other way. A parent that dies closes the pipe, which the worker takes for
being told to stop. The pipe between two processes of one run is the only place where objects are
serialised by Python.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.assignment import Assignment, Group
from knowledge_gaps.execution.claims import TakenError
from knowledge_gaps.execution.quick_start import collect_as_usual

_REPORT_SEC = 0.5

End = Callable[[Assignment, Exception | None], None]  # of an instance, and what made it fail


class MessageKind(Enum):
    """What a worker has to say."""

    PROGRESS = "progress"
    FINISHED = "finished"
    TAKEN = "taken"
    FAILED = "failed"


@dataclass(frozen=True)
class Message:
    """News of one instance.

    Attributes:
        kind: see `MessageKind`.
        instance: whose news.
        step: steps done.
        row: newest row of the curves, if any.
        text: what failed, or who has it, one line.
    """

    kind: MessageKind
    instance: int
    step: int = 0
    row: dict[str, float] | None = None
    text: str = ""


def run_worker(index: int, connection: Connection) -> None:
    """Train what the parent assigns, until it assigns None or ends.

    Args:
        index: of this worker; decides its GPU.
        connection: this worker's end of the pipe.
    """
    # Ctrl-C reaches the whole process group: the parent decides, and says so over the pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from knowledge_gaps.core.determinism import configure_process
    from knowledge_gaps.core.devices import keep_freed_memory

    collect_as_usual()
    configure_process()
    keep_freed_memory()
    while (group := _receive(connection)) is not None:
        try:
            for message in _train_group(group, index, connection):
                connection.send(message)
        except (StoppedError, BrokenPipeError):
            return


class _PipeSession:
    """A `loop.Session` over the worker's end of the pipe."""

    def __init__(self, instance: int, connection: Connection) -> None:
        self._instance, self._connection = instance, connection
        self._reported_at = 0.0
        self._stopping = False

    def is_stopping(self) -> bool:
        # during a training the parent only ever sends None, and a dead parent's pipe is readable
        self._stopping = self._stopping or self._connection.poll()
        return self._stopping

    def report(self, step: int, row: dict[str, float] | None) -> None:
        now = time.monotonic()
        if row is None and now - self._reported_at < _REPORT_SEC:
            return
        self._reported_at = now
        try:
            self._connection.send(Message(MessageKind.PROGRESS, self._instance, step, row))
        except BrokenPipeError:
            self._stopping = True


def _receive(connection: Connection) -> Group | None:
    try:
        group: Group | None = connection.recv()
    except (EOFError, ConnectionResetError):  # the latter: the parent left messages unread
        return None
    return group


def _train_group(group: Group, index: int, connection: Connection) -> list[Message]:
    """Train a group; return what to tell of each instance, once all claims are given back.

    Raises:
        StoppedError: when the training was stopped.
    """
    ended: dict[int, Message] = {}

    def end(entry: Assignment, error: Exception | None) -> None:
        ended[entry.task.instance] = _describe_end(entry.task.instance, error)

    try:
        with ExitStack() as stack:
            waiting = [entry for entry in group if _claim(entry, stack, end)]
            _train(waiting, index, connection, end)
    except StoppedError:
        raise
    except Exception as error:  # one group's fault must not take the others with it
        if not isinstance(error, UserError):
            traceback.print_exc()
        for entry in group:
            if entry.task.instance not in ended:
                end(entry, error)
    return list(ended.values())


def _claim(entry: Assignment, stack: ExitStack, end: End) -> bool:
    """Claim an instance; tell whether it is left to this process to train it."""
    try:
        stack.enter_context(entry.claim())
    except TakenError as error:
        end(entry, error)
        return False
    if entry.is_finished():
        end(entry, None)
        return False
    return True


def _train(entries: Sequence[Assignment], index: int, connection: Connection, end: End) -> None:
    sessions = {
        entry.task.instance: _PipeSession(entry.task.instance, connection) for entry in entries
    }
    from knowledge_gaps.training.instance import train_instance

    for entry in entries:
        session = sessions[entry.task.instance]
        train_instance(entry.task, index, entry.result, entry.state_file, session)
        end(entry, None)


def _describe_end(instance: int, error: Exception | None) -> Message:
    if error is None:
        return Message(MessageKind.FINISHED, instance)
    if isinstance(error, TakenError):
        return Message(MessageKind.TAKEN, instance, text=str(error))
    text = str(error)
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {' '.join(text.split())}"
    return Message(MessageKind.FAILED, instance, text=text)
