"""`kgaps repro`: what `dvc repro` does, with stages that do not wait for one another side by side.

Stages are run by `dvc repro --single-item`, so what runs, what is restored from the cache and what
is written to dvc.lock is DVC's business; this only decides when. The result is that of a serial
`dvc repro`, byte for byte.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from knowledge_gaps.orchestration.guard import run_alone
from knowledge_gaps.orchestration.job import StageJob, get_repro_directory, wait_for_others
from knowledge_gaps.orchestration.machine import Room, find_needs
from knowledge_gaps.orchestration.order import (
    is_order_noted,
    note_order,
    read_outputs,
    restore_order,
)
from knowledge_gaps.orchestration.plan import Plan, read_plan
from knowledge_gaps.orchestration.schedule import Crew, Ledger, run_plan
from knowledge_gaps.orchestration.show import StageShow
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.printing import count_words
from knowledge_gaps.runtime.signals import StopFlag
from knowledge_gaps.study import Study

_FIRST = "check"


def run(root: Path, study: Study, targets: Sequence[str], max_jobs: int | None = None) -> None:
    """Bring stages up to date, as many at the same time as the machine has room for.

    Args:
        root: the repository's root.
        study: the present one.
        targets: stages, with all that they stand on; none for all.
        max_jobs: stages at the same time at most; None leaves it to the room.

    Raises:
        StoppedError: when the process was told to stop; states of trainings are saved.
        UserError: when a stage failed, with a line for each; all that does not stand on it ran.
    """
    with run_alone(root) as stop:
        wait_for_others(root, stop)
        plan = _read_plan(root, targets, stop)
        # what an unfinished run left may be more than what stands below these targets
        is_all = not (targets and is_order_noted(root))
        num_done = 0
        if _FIRST in plan.changed:
            num_done = _judge(_run_first(root, study, plan, stop), stop)
            plan = _read_plan(root, targets, stop)
        if plan.changed:
            num_done += _judge(_run(root, study, plan, max_jobs, is_all, stop), stop)
        else:
            restore_order(root, plan.order, is_finished=is_all, stop=stop)
    if num_done:
        print(f"{count_words(num_done, 'stage')} done.")
    else:
        print("Data and pipelines are up to date.")


def _read_plan(root: Path, targets: Sequence[str], stop: StopFlag) -> Plan:
    try:
        return read_plan(root, targets, stop, is_order_needed=is_order_noted(root))
    except UserError:
        read_outputs(root, stop)  # says more than DVC does where dvc.lock is damaged
        raise


def _run(
    root: Path, study: Study, plan: Plan, max_jobs: int | None, is_all: bool, stop: StopFlag
) -> Ledger:
    note_order(root, stop)
    ledger = _run_stages(root, study, plan, max_jobs, stop)
    is_finished = is_all and ledger.count_left() == 0 and not ledger.failed
    restore_order(root, plan.order, is_finished, stop)
    return ledger


def _run_first(root: Path, study: Study, plan: Plan, stop: StopFlag) -> Ledger:
    """Run the stage that notes the code of every cohort, before anything else is planned.

    Its notes are one output, of which each cohort depends on a file: only DVC can tell then which
    cohorts are due. It is also the first of a serial run, so that no order has to be restored.
    """
    return _run_stages(root, study, plan.keep(_FIRST), 1, stop)


def _run_stages(
    root: Path, study: Study, plan: Plan, max_jobs: int | None, stop: StopFlag
) -> Ledger:
    get_repro_directory(root).mkdir(parents=True, exist_ok=True)
    with StageShow(root) as show:
        crew = Crew(
            room=Room.of_this_machine(),
            needs=find_needs(study, plan.order),
            max_jobs=max_jobs or len(plan.order),
            start=functools.partial(StageJob, root),
            read_outputs=functools.partial(read_outputs, root, stop),
            audience=show,
        )
        return run_plan(plan, crew, stop)


def _judge(ledger: Ledger, stop: StopFlag) -> int:
    """Count the stages that are done; raise where one failed or all were stopped."""
    num_done = len(ledger.done)
    if stop.is_set():
        done = count_words(num_done, "stage")
        raise StoppedError(f"{done} done, states saved; the same command resumes")
    if ledger.failed:
        lines = [f"{stage}: {error}" for stage, error in sorted(ledger.failed.items())]
        due = sorted(ledger.left_out & ledger.due)
        left_out = f", {len(due)} left out because of that" if due else ""
        first = f"{count_words(len(lines), 'stage')} failed, {num_done} done{left_out}"
        raise UserError("\n".join([first, *lines]))
    return num_done
