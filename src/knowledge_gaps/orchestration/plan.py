"""What there is to do: the stages in the order of a serial run, their edges, and what changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.orchestration.dvc_calls import ask_dvc, finish_dvc, parse_json, start_dvc
from knowledge_gaps.runtime.signals import StopFlag

_EDGE = re.compile(r'^"([^"]+)" -> "([^"]+)";$', re.MULTILINE)
_RUNNING = re.compile(r"^Running stage '([^']+)':$", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """Stages and what each stands on.

    Attributes:
        order: the stages that are asked for with all that they stand on, as `dvc repro` runs them.
        upstream: the stages that each of them directly stands on.
        changed: stages that DVC says are not up to date, in order.
    """

    order: tuple[str, ...]
    upstream: Mapping[str, frozenset[str]]
    changed: tuple[str, ...]

    def keep(self, stage: str) -> Plan:
        """Return a plan of one stage alone."""
        return Plan((stage,), {stage: frozenset()}, tuple({stage} & {*self.changed}))

    def find_downstream(self, stage: str) -> list[str]:
        """List the stages that directly stand on one, in order."""
        return [name for name in self.order if stage in self.upstream[name]]

    def find_descendants(self, stage: str) -> list[str]:
        """List the stages that stand on one, directly or not, in order."""
        found = {stage}
        for name in self.order:
            if self.upstream[name] & found:
                found.add(name)
        return [name for name in self.order if name in found and name != stage]


def read_plan(
    root: Path, targets: Sequence[str], stop: StopFlag, is_order_needed: bool = False
) -> Plan:
    """Ask DVC what is to be done.

    Args:
        root: the repository's root.
        targets: stages as `dvc repro` takes them; none for all.
        stop: ends the questions.
        is_order_needed: also when everything is up to date.

    Returns:
        The plan; without stages when everything is up to date and no order is needed.

    Raises:
        StoppedError: when the process was told to stop.
        UserError: when DVC cannot say.
    """
    edges = start_dvc(root, "dag", "--dot")  # side by side, for most of it is starting Python
    try:
        with_upstream = ["--with-deps"] if targets else []
        status = ask_dvc(
            root, "--wait-for-lock", "status", "--json", *with_upstream, *targets, stop=stop
        )
        changed = set(parse_json(status))
        if not changed and not is_order_needed:
            return Plan((), {}, ())
        dry = ask_dvc(root, "--wait-for-lock", "repro", "--dry", "--force", *targets, stop=stop)
        return make_plan(_RUNNING.findall(dry), _EDGE.findall(finish_dvc(edges, stop)), changed)
    finally:
        edges.kill()
        edges.communicate()


def make_plan(
    order: Sequence[str], edges: Iterable[tuple[str, str]], changed: Iterable[str]
) -> Plan:
    """Put a plan together.

    Args:
        order: the stages, each after those that it stands on.
        edges: (upstream, downstream), of more stages perhaps.
        changed: stages that are not up to date, in any order.
    """
    known, upstream = set(order), {name: set[str]() for name in order}
    for above, below in edges:
        if above in known and below in known:
            upstream[below].add(above)
    stale = set(changed)
    return Plan(
        tuple(order),
        {name: frozenset(upstream[name]) for name in order},
        tuple(name for name in order if name in stale),
    )
