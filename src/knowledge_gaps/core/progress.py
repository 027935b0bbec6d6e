"""Progress on the terminal: bars where there is one, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
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


class InstanceProgress:
    """Steps done by instances of a cohort; drawn while a block lasts.

    Args:
        title: the cohort as "gans/COHORT" or "classifiers/COHORT".
        instances: that are trained.
        num_steps: how many steps each takes.
    """

    def __init__(self, title: str, instances: Iterable[int], num_steps: int) -> None:
        self._title, self._num_steps = title, num_steps
        self._steps = dict.fromkeys(instances, 0)
        self._started_at = self._said_at = time.monotonic()
        self._bars: Progress | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bars = Progress(*columns, TimeRemainingColumn(), console=Console())
            self._ids = {
                instance: self._bars.add_task(f"{title}/{instance}", total=num_steps)
                for instance in self._steps
            }

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif error is None:
            self._say()

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """Show an instance's progress; an `execution.progress.Callback`."""
        self._steps[instance] = step
        if self._bars is not None:
            self._bars.update(self._ids[instance], completed=step)
        elif time.monotonic() - self._said_at > _LINE_SEC:
            self._say()

    def _say(self) -> None:
        self._said_at = time.monotonic()
        elapsed_sec = self._said_at - self._started_at
        steps = " ".join(str(step) for step in self._steps.values())
        print(f"{self._title}: steps {steps} of {self._num_steps}, {elapsed_sec:.0f} s", flush=True)
