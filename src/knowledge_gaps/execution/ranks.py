"""One instance on several GPUs: how the ranks that train it together are started, and what they do.

Ranks are started by `--num-processes` on this machine, or by the user's torchrun on any number of
hosts. They train instances one after the other. Rank 0 decides and writes: it holds the locks,
reports, and publishes the cohort; the others do what it sends.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import Rank, count_gpus, find_gpu, keep_freed_memory
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.execution.assignment import Assignment, LockedError, train_assignment
from knowledge_gaps.execution.cohort import train_cohort, train_single
from knowledge_gaps.execution.local import Outcome, Stop
from knowledge_gaps.execution.progress import Callback, Reporter
from knowledge_gaps.execution.signals import catch_stop_signals
from knowledge_gaps.training.instance import train_instance
from knowledge_gaps.training.loop import DivergedError
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.sizes import check_shares
from knowledge_gaps.training.task import TrainingTask

_SAVED = "state saved, the same command resumes"


def launch_ranks(num_processes: int, function: Callable[..., None], *arguments: object) -> None:
    """Run a function in several processes of this machine that are ranks to one another.

    Args:
        num_processes: how many.
        function: of a module; finds its rank by torchrun's variables.
        *arguments: of the function.

    Raises:
        StoppedError: when this process or a rank was told to stop; the state is saved.
        UserError: the first rank's, or when a rank was killed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.CRITICAL)  # torchrun's account of what is told in one line below
    with tempfile.TemporaryDirectory(prefix="kgaps-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",  # the name of this machine need not resolve
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, _call)(function, arguments)  # it would turn enums into text
        except SignalException as error:
            raise StoppedError(_SAVED) from error
        except ChildFailedError:
            _raise_failure(Path(folder))
        finally:
            logging.disable(logging.NOTSET)
            for process in multiprocessing.active_children():  # a second Ctrl-C waits for none
                process.kill()


def _call(function: Callable[..., None], arguments: Sequence[object]) -> None:
    function(*arguments)


def train_as_rank(
    rank: Rank, tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], instance: int | None
) -> None:
    """Train a cohort, or one instance of it, as one of several ranks.

    Args:
        rank: of this process.
        tasks: of one cohort, all instances, in order.
        callbacks: called with every instance's progress; of rank 0 alone.
        instance: to train alone, without publishing; None for the cohort.

    Raises:
        StoppedError: when any rank was told to stop; the state is saved.
        UserError: as `train_cohort` and `train_single`; when the batches cannot be shared evenly.
    """
    check_shares(tasks[0].recipe, rank.size)
    configure_process()
    keep_freed_memory()
    entries = [Assignment.of(task) for task in tasks]
    with join_ranks(rank) as ranks:
        names = [entry.directory.name for entry in entries]
        if ranks.agree(ranks.share(names) != names):
            raise UserError(f"{tasks[0].cohort_path}: hosts differ in code, data, params or pool")
        if not ranks.is_main:
            _follow(ranks, rank, entries)
            return
        executor = partial(_run_together, ranks, rank)
        try:
            if instance is None:
                train_cohort(tasks, callbacks, executor)
            else:
                train_single(tasks[instance], callbacks, executor)
        except RankError:
            raise  # the others wait in the middle of a step: the end of this process tells them
        except (StoppedError, UserError) as error:
            ranks.share(error)
            raise
        ranks.share(None)


class RankError(UserError):
    """An error that one rank has alone."""


@contextmanager
def join_ranks(rank: Rank) -> Iterator[Ranks]:
    """Meet the other ranks by torchrun's variables, and leave them at the end of a good run."""
    num_gpus = count_gpus()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Accelerate would share out all cores
    if num_gpus > 0:
        torch.cuda.set_device(find_gpu(rank, num_gpus))
    dist.init_process_group("cpu:gloo,cuda:nccl" if num_gpus > 0 else "gloo")
    yield Ranks(rank.size, rank.index)
    dist.destroy_process_group()


def _run_together(
    ranks: Ranks,
    rank: Rank,
    assignments: Sequence[Assignment],
    callbacks: Sequence[Callback],
    stop: Stop,
) -> Outcome:
    """Train instances one after the other by all ranks; an `Executor` of rank 0."""
    outcome = Outcome()
    for entry in assignments:
        instance = entry.task.instance
        try:
            announce = partial(ranks.share, instance)
            train_assignment(entry, rank.local_index, stop.is_set, callbacks, announce)
        except StoppedError:
            outcome.stopped = True
            break
        except (DivergedError, LockedError) as error:  # all ranks know
            outcome.errors[instance] = str(error)
        except UserError as error:
            raise RankError(f"{entry.task.path}: {error}") from error
    return outcome


def _follow(ranks: Ranks, rank: Rank, entries: Sequence[Assignment]) -> None:
    """Train what rank 0 announces, until it sends None or its error."""
    with catch_stop_signals() as stop:
        while (sent := ranks.share(None)) is not None:
            if isinstance(sent, Exception):
                raise sent
            task, directory = entries[sent].task, entries[sent].directory
            session = Reporter(task.instance, None, stop.is_set)
            with suppress(StoppedError, DivergedError):
                train_instance(task, rank.local_index, directory, directory, session)


def _raise_failure(folder: Path) -> NoReturn:
    """Raise what a rank raised, by the ranks' error files."""
    texts = []
    for path in sorted(folder.rglob("error.json")):
        message = read_json(path)["message"]
        kind, _, text = message["message"].partition(": ")
        if kind == StoppedError.__name__:
            raise StoppedError(text)
        if kind in (UserError.__name__, RankError.__name__):
            raise UserError(text)
        texts.append(f"{kind}: {' '.join(text.split())}")
        print(message["extraInfo"]["py_callstack"], file=sys.stderr)
    text = "; ".join(texts) or "killed, often by too little memory"
    raise UserError(f"a rank failed ({text}); the same command resumes")
