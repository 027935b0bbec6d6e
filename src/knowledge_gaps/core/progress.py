"""Progress on the terminal: bars where there is one, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)

_LINE_SEC = 15.0
_Item = TypeVar("_Item")
_Drawing = TypeVar("_Drawing", Live, Progress)


def track_items(items: Iterable[_Item], title: str, num_items: int) -> Iterator[_Item]:
    """Hand items on, and show how many have come.

    Args:
        items: whatever is waited for.
        title: what they are.
        num_items: how many will come.
    """
    if sys.stdout.isatty():
        yield from track(items, description=title, total=num_items)
        return
    started_at = said_at = time.monotonic()
    for count, item in enumerate(items, start=1):
        if time.monotonic() - said_at > _LINE_SEC:
            said_at = time.monotonic()
            print(f"{title}: {count} of {num_items}, {said_at - started_at:.0f} s", flush=True)
        yield item


class Display(Generic[_Drawing]):
    """What is drawn anew on a terminal for as long as a block lasts; nothing is drawn elsewhere.

    Args:
        drawing: None where there is no terminal.
    """

    def __init__(self, drawing: _Drawing | None) -> None:
        self._drawing: _Drawing | None = drawing

    def __enter__(self) -> Self:
        if self._drawing is not None:
            self._drawing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(error is None)
        if self._drawing is not None:
            self._drawing.stop()

    def finish(self, is_good: bool) -> None:
        """Show the last of it, just before the end of the block."""


class InstanceProgress(Display[Progress]):
    """Steps done by every instance of a cohort; a listener of `training.cohort`.

    Args:
        title: the cohort as "gans/COHORT" or "classifiers/COHORT".
        num_instances: how many instances it has.
        num_steps: how many steps each takes.
    """

    def __init__(self, title: str, num_instances: int, num_steps: int) -> None:
        self._title, self._num_steps = title, num_steps
        self._steps = dict.fromkeys(range(num_instances), 0)
        self._started_at = self._said_at = time.monotonic()
        bars: Progress | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            bars = Progress(*columns, TimeRemainingColumn(), console=Console())
            for instance in self._steps:
                bars.add_task(f"{title}/{instance}", total=num_steps)
        super().__init__(bars)

    def finish(self, is_good: bool) -> None:
        """Say how far it came, where no bars show it."""
        if self._drawing is None and is_good:
            self._say()

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """Take note of an instance's progress."""
        self._steps[instance] = step
        if self._drawing is not None:
            self._drawing.update(self._drawing.task_ids[instance], completed=step)
        elif time.monotonic() - self._said_at > _LINE_SEC:
            self._say()

    def _say(self) -> None:
        self._said_at = time.monotonic()
        elapsed_sec = self._said_at - self._started_at
        steps = " ".join(str(step) for step in self._steps.values())
        print(f"{self._title}: steps {steps} of {self._num_steps}, {elapsed_sec:.0f} s", flush=True)
