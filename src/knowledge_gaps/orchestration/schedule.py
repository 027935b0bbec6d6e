"""Which stage runs when: whatever stands on finished stages only, the longest way to go first.

A stage is due when DVC said that it changed, or when a stage that it stands on ended with other
outputs than before. What stands on a failed stage is left out, everything else is done. Nothing
here knows processes or DVC, so that tests schedule without either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from knowledge_gaps.orchestration.machine import Need, Room, Share
from knowledge_gaps.orchestration.plan import Plan
from knowledge_gaps.runtime.errors import StoppedError
from knowledge_gaps.runtime.signals import StopFlag

_POLL_SEC = 0.1


class Job(Protocol):
    """A stage that was started."""

    def poll(self) -> bool:
        """Tell whether it has ended, with all its processes."""
        ...

    def explain(self) -> str | None:
        """Say in one line why it failed; None when it did not. For a job that has ended."""
        ...

    def stop(self) -> None:
        """Tell it to save its state and end."""
        ...


class Audience(Protocol):
    """Who is told what happens."""

    def start(self, stage: str, share: Share) -> None:
        """Take note of a stage that starts."""
        ...

    def end(self, stage: str, error: str | None) -> None:
        """Take note of a stage that ended, and why it failed if it did."""
        ...

    def refresh(self, num_done: int, num_left: int) -> None:
        """Show how far all of it is; called many times a second."""
        ...


@dataclass
class Ledger:
    """What became of the stages.

    Attributes:
        plan: what is to be done.
        due: stages that have to run.
        running: with the job and the share of each.
        done: stages that ran, in the order in which they ended.
        failed: why, by stage.
        left_out: stages that stand on failed ones.
    """

    plan: Plan
    due: set[str]
    running: dict[str, tuple[Job, Share]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Plan) -> Ledger:
        """Begin with what DVC said."""
        return cls(plan, set(plan.changed))

    def find_ready(self) -> list[str]:
        """List the stages that could start now, in order."""
        settled: set[str] = set()
        ready = []
        for stage in self.plan.order:
            is_free = self.plan.upstream[stage] <= settled
            if stage in self.done or (is_free and stage not in self.due):
                settled.add(stage)
            elif is_free and stage not in self.running and stage not in self.failed:
                ready.append(stage)
        return ready

    def count_left(self) -> int:
        """Count the stages that still have to run, as far as is known."""
        return len(self.due - set(self.done) - set(self.failed) - self.left_out)

    def note_end(self, stage: str, error: str | None, is_other: bool) -> None:
        """Take note of how a running stage ended, and whether its outputs are others now."""
        del self.running[stage]
        if error is not None:
            self.failed[stage] = error
            self.left_out.update(self.plan.find_descendants(stage))
            return
        self.done.append(stage)
        if is_other:
            self.due.update(self.plan.find_downstream(stage))


@dataclass(frozen=True)
class Crew:
    """What running the stages of a plan takes.

    Attributes:
        room: the machine.
        needs: what each stage can use.
        max_jobs: stages at the same time at most.
        start: starts a stage with a share of the machine.
        read_outputs: tells what is recorded of the outputs of every stage that ever ran; raises
            StoppedError when it would have to wait after the stop.
        audience: who is told.
    """

    room: Room
    needs: Mapping[str, Need]
    max_jobs: int
    start: Callable[[str, Share], Job]
    read_outputs: Callable[[], Mapping[str, object]]
    audience: Audience


def run_plan(plan: Plan, crew: Crew, stop: StopFlag) -> Ledger:
    """Run every stage that is due, as many at the same time as there is room for.

    Args:
        plan: what is to be done.
        crew: what it takes.
        stop: once it is set, nothing starts any more, and what runs is told to stop.

    Returns:
        What became of the stages, when none runs any more.
    """
    ledger, urgency = Ledger.of(plan), rank_stages(plan, crew.needs)
    outputs = crew.read_outputs()
    told_to_stop = False
    while True:
        if not stop.is_set():
            _start_ready(ledger, crew, urgency)
        elif not told_to_stop:
            told_to_stop = True
            for job, _ in ledger.running.values():
                job.stop()
        if not ledger.running:
            return ledger
        ended = [stage for stage, (job, _) in ledger.running.items() if job.poll()]
        for stage in ended:
            outputs = _settle(ledger, crew, stage, outputs)
        crew.audience.refresh(len(ledger.done), ledger.count_left())
        if not ended:
            time.sleep(_POLL_SEC)


def rank_stages(plan: Plan, needs: Mapping[str, Need]) -> dict[str, float]:
    """Tell of each stage how long the longest way from its start to the end of the plan is."""
    ways: dict[str, float] = {}
    for stage in reversed(plan.order):
        further = [ways[below] for below in plan.find_downstream(stage)]
        ways[stage] = needs[stage].estimate(1) + max(further, default=0.0)
    return ways


def _start_ready(ledger: Ledger, crew: Crew, urgency: Mapping[str, float]) -> None:
    num_jobs = crew.max_jobs - len(ledger.running)
    ready = sorted(ledger.find_ready(), key=lambda stage: -urgency[stage])[: max(0, num_jobs)]
    shares = crew.room.take([crew.needs[stage] for stage in ready])
    for stage, share in zip(ready, shares, strict=True):
        if share is not None:
            crew.audience.start(stage, share)
            ledger.running[stage] = crew.start(stage, share), share


def _settle(
    ledger: Ledger, crew: Crew, stage: str, before: Mapping[str, object]
) -> Mapping[str, object]:
    """Take note of a stage that ended; return what is recorded of all outputs now."""
    job, share = ledger.running[stage]
    crew.room.give_back(share)
    error = job.explain()
    try:
        after = crew.read_outputs()
    except StoppedError:  # nothing more starts, so whoever stands on it may count as due
        after = {}
    is_other = stage not in after or after[stage] != before.get(stage)
    ledger.note_end(stage, error, is_other)
    crew.audience.end(stage, error)
    return {**before, **{stage: after.get(stage)}}
