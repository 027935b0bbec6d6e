"""Instances of a cohort from their tasks to their result files, all in one batched program.

What `training.loop` and `training.instance` do for one instance is done here for several: each is
resumed, logged, saved, stopped and written by the same functions as alone. Instances that were
interrupted at different steps wait for the one that is furthest behind, so that all of a stack
stand at the same step. One that diverges leaves the stack; the others do not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from knowledge_gaps.runtime.accelerator import build_accelerator
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.assignment import Assignment
from knowledge_gaps.training.batched.advance import Advance, Member
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.instance import Finished, build_trainer, write_result
from knowledge_gaps.training.loop import Session, check_result
from knowledge_gaps.training.state import load_state

if TYPE_CHECKING:
    from accelerate import Accelerator

Fail = Callable[[Assignment, UserError], None]


def train_together(
    entries: Sequence[Assignment],
    worker: int,
    sessions: Mapping[int, Session],
    end: Callable[[Assignment, UserError | None], None],
) -> None:
    """Train instances of a cohort as one program and write their result files.

    Args:
        entries: of one cohort, all supported by `choice.is_supported`.
        worker: index of this worker process.
        sessions: by instance.
        end: told of an instance that is finished, or of what made it fail.

    Raises:
        StoppedError: when a session stopped it, after the states were saved.
    """
    recipe = entries[0].task.recipe
    assert isinstance(recipe, GanRecipe)
    accelerator = build_accelerator(worker, recipe.mixed_precision)
    members = _load_members(entries, accelerator, sessions, end)
    while any(member.step < recipe.steps for member in members):
        group, stop = pick_group(members, recipe.steps)
        for member, error in Advance(group, recipe, accelerator).run(stop):
            members.remove(member)
            end(member.entry, error)
    for member in members:
        end(member.entry, _write(member))


def _load_members(
    entries: Sequence[Assignment],
    accelerator: Accelerator,
    sessions: Mapping[int, Session],
    fail: Fail,
) -> list[Member]:
    """Build and resume the instances; the frozen classifiers of the first serve all."""
    members: list[Member] = []
    for entry in entries:
        try:
            trainer, bench = build_trainer(entry.task, accelerator)
            step, curves = load_state(trainer, entry.state_file)
        except UserError as error:
            fail(entry, error)
            continue
        assert isinstance(trainer, GanTrainer)
        trainer.phases.clear()  # they hold classifiers, of which one copy is enough
        trainer.fooling = members[0].trainer.fooling if members else trainer.fooling
        session = sessions[entry.task.instance]
        session.report(step, None)
        members.append(Member(entry, trainer, bench, session, curves, step))
    return members


def pick_group(members: Sequence[Member], steps: int) -> tuple[list[Member], int]:
    """Pick the instances that are furthest behind, and the step at which they meet others."""
    first = min(member.step for member in members)
    group = [member for member in members if member.step == first]
    return group, min((m.step for m in members if m.step > first), default=steps)


def _write(member: Member) -> UserError | None:
    """Write the result of an instance, unless its last update spoilt it; return what failed."""
    try:
        check_result(member.trainer, member.step)
        finished = Finished(
            member.entry.task, member.trainer, member.bench, member.curves, member.step
        )
        write_result(finished, member.entry.result)
    except UserError as error:
        return error
    return None
