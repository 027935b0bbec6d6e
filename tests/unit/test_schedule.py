"""Stages run after what they stand on, as many as there is room for, and failures stay local."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from knowledge_gaps.orchestration import schedule
from knowledge_gaps.orchestration.machine import Need, Room, Share
from knowledge_gaps.orchestration.plan import Plan, make_plan
from knowledge_gaps.orchestration.schedule import Crew, Ledger, rank_stages, run_plan
from knowledge_gaps.runtime.signals import StopFlag

# a -> b -> d -> e, a -> c -> e, and f alone
ORDER = ["a", "b", "c", "d", "e", "f"]
EDGES = [("a", "b"), ("a", "c"), ("b", "d"), ("d", "e"), ("c", "e")]


@dataclass
class FakeJob:
    """Ends after some looks at it, or at once when told to stop."""

    stage: str
    looks: int
    error: str | None
    is_stopped: bool = False

    def poll(self) -> bool:
        self.looks -= 1
        return self.looks <= 0 or self.is_stopped

    def explain(self) -> str | None:
        return "stopped" if self.is_stopped else self.error

    def stop(self) -> None:
        self.is_stopped = True


@dataclass
class Theatre:
    """Starts fake jobs and notes what happens."""

    errors: Mapping[str, str] = field(default_factory=dict)
    same: frozenset[str] = frozenset()  # stages whose outputs stay what they were
    events: list[str] = field(default_factory=list)
    running: dict[str, Share] = field(default_factory=dict)
    most: int = 0
    outputs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ORDER, 0))
    at_start: Callable[[str], None] = lambda stage: None

    def launch(self, stage: str, share: Share) -> FakeJob:
        self.running[stage] = share
        self.most = max(self.most, sum(share.workers for share in self.running.values()))
        self.at_start(stage)
        return FakeJob(stage, looks=2, error=self.errors.get(stage))

    def start(self, stage: str, share: Share) -> None:
        self.events.append(f"+{stage}")

    def end(self, stage: str, error: str | None) -> None:
        self.events.append(f"-{stage}")
        del self.running[stage]

    def refresh(self, num_done: int, num_left: int) -> None:
        assert num_left >= 0

    def read_outputs(self) -> dict[str, int]:
        for event in self.events:
            if event[0] == "+" and event[1:] not in self.same:
                self.outputs[event[1:]] = 1
        return dict(self.outputs)


@pytest.fixture(autouse=True)
def _poll_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_POLL_SEC", 0.0)


def play(plan: Plan, theatre: Theatre, cores: int = 2, max_jobs: int = 9) -> Ledger:
    needs = dict.fromkeys(plan.order, Need(2, 1))
    crew = Crew(Room(cores), needs, max_jobs, theatre.launch, theatre.read_outputs, theatre)
    stop = StopFlag()
    theatre.at_start = lambda stage: stop.set() if stage == "stop" else None
    return run_plan(plan, crew, stop)


def come_before(events: list[str], first: str, second: str) -> bool:
    return events.index(first) < events.index(second)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_every_stage_runs_once_and_after_what_it_stands_on(cores: int) -> None:
    theatre = Theatre()
    ledger = play(make_plan(ORDER, EDGES, ORDER), theatre, cores)
    assert sorted(ledger.done) == ORDER
    assert sorted(theatre.events) == sorted([f"{sign}{stage}" for sign in "+-" for stage in ORDER])
    assert all(come_before(theatre.events, f"-{above}", f"+{below}") for above, below in EDGES)
    assert theatre.most <= cores


def test_independent_stages_run_at_the_same_time() -> None:
    theatre = Theatre()
    play(make_plan(ORDER, EDGES, ORDER), theatre)
    assert come_before(theatre.events, "+c", "-b") or come_before(theatre.events, "+f", "-b")


def test_one_job_at_a_time_is_a_serial_run() -> None:
    theatre = Theatre()
    play(make_plan(ORDER, EDGES, ORDER), theatre, cores=8, max_jobs=1)
    assert all(
        event[1:] == following[1:]
        for event, following in zip(theatre.events[::2], theatre.events[1::2], strict=True)
    )


def test_longest_way_comes_first() -> None:
    plan = make_plan(ORDER, EDGES, ORDER)
    ways = rank_stages(plan, {**dict.fromkeys(ORDER, Need(1, 0)), "c": Need(1, 7)})
    start = Need(1, 0).estimate(1)
    assert ways == {
        "a": 4 * start,
        "b": 3 * start,
        "c": 2 * start + 7,
        "d": 2 * start,
        "e": start,
        "f": start,
    }
    theatre = Theatre()
    play(plan, theatre, cores=1)
    assert theatre.events[::2] == ["+a", "+b", "+c", "+d", "+e", "+f"]


def test_only_what_changed_runs_while_outputs_stay_the_same() -> None:
    theatre = Theatre(same=frozenset(ORDER))
    assert play(make_plan(ORDER, EDGES, ["a", "c"]), theatre).done == ["a", "c"]


def test_other_outputs_make_what_stands_on_them_due() -> None:
    theatre = Theatre(same=frozenset(["d"]))
    ledger = play(make_plan(ORDER, EDGES, ["b"]), theatre)
    assert ledger.done == ["b", "d"]  # d made what was there before, so e stays
    assert ledger.count_left() == 0


def test_failure_leaves_out_what_stands_on_it_and_nothing_else() -> None:
    theatre = Theatre(errors={"b": "out of memory"})
    ledger = play(make_plan(ORDER, EDGES, ORDER), theatre)
    assert sorted(ledger.done) == ["a", "c", "f"]
    assert ledger.failed == {"b": "out of memory"}
    assert ledger.left_out == {"d", "e"}
    assert ledger.count_left() == 0


def test_stop_reaches_what_runs_and_starts_nothing_more() -> None:
    theatre = Theatre()
    order = ["stop", "beside", "after"]
    ledger = play(make_plan(order, [("stop", "after")], order), theatre)
    assert theatre.events[:2] == ["+stop", "+beside"]
    assert sorted(theatre.events[2:]) == ["-beside", "-stop"]
    assert ledger.failed == {"stop": "stopped", "beside": "stopped"}


def test_plan_of_one_stage_has_it_alone() -> None:
    plan = make_plan(ORDER, EDGES, ["b", "c"])
    assert plan.keep("c") == make_plan(["c"], [], ["c"])
    assert plan.keep("d") == make_plan(["d"], [], [])


def test_plan_keeps_edges_among_its_own_stages() -> None:
    plan = make_plan(["a", "b"], [("a", "b"), ("x", "b"), ("b", "y")], ["x", "b"])
    assert plan.upstream == {"a": frozenset(), "b": frozenset({"a"})}
    assert plan.changed == ("b",)
    assert make_plan(ORDER, EDGES, []).find_descendants("b") == ["d", "e"]
