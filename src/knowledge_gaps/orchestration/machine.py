"""The machine, shared out among stages: cores, or GPUs for what runs on them; never too much of it.

What a stage can use is known from the study (`find_needs`), and estimated in images: a unit that
is good enough for telling a long stage from a short one, which is all that it is used for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knowledge_gaps.runtime.devices import WORKERS_VARIABLE, count_cores, count_gpus, count_workers
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
_START_IMAGES = 50_000  # that a training would see while a stage starts Python, torch and MLflow
_GAN_PASSES = 3  # a GAN's step costs about so many times a classifier's, for a batch as large
_ON_ONE_GPU = ("samples", "detections", "quality", "attributions", "agreement")
_ON_CORES = ("spectra",)
AUDITED = 5  # classifiers of a recipe that the audit trains side by side


@dataclass(frozen=True)
class Need:
    """What a stage can use.

    Attributes:
        most: workers beyond which it gets no faster, at least 1.
        images: that each item of its work, such as an instance, has to do with.
        on_gpu: it uses GPUs where there are some.
    """

    most: int = 1
    images: int = 0
    on_gpu: bool = False

    def estimate(self, workers: int) -> float:
        """Estimate how long it takes with some workers, in images."""
        return _START_IMAGES + math.ceil(self.most / workers) * self.images


@dataclass(frozen=True)
class Share:
    """The part of the machine that a running stage has.

    Attributes:
        workers: processes side by side, each on a core or GPU of its own.
        gpus: which ones, as CUDA_VISIBLE_DEVICES names them; none for a stage on cores.
    """

    workers: int
    gpus: tuple[str, ...] = ()

    def describe(self) -> Mapping[str, str]:
        """Name the environment variables by which the stage keeps to its share."""
        if self.gpus:
            # an inherited number of workers would be that of the whole machine
            return {GPUS_VARIABLE: ",".join(self.gpus), WORKERS_VARIABLE: str(len(self.gpus))}
        return {WORKERS_VARIABLE: str(self.workers)}


class Room:
    """What of the machine is free.

    Args:
        cores: for stages on cores.
        gpus: for stages on GPUs, which take cores where there are none.
    """

    def __init__(self, cores: int, gpus: Sequence[str] = ()) -> None:
        self._cores, self._gpus = cores, list(gpus)
        self._has_gpus = bool(gpus)

    @classmethod
    def of_this_machine(cls) -> Room:
        """Find cores and GPUs; KGAPS_WORKERS and KGAPS_DEVICE override, as for a stage.

        Raises:
            UserError: when one of them makes no sense.
        """
        cores = count_workers(1 << 30, use_gpus=False)
        num_gpus = count_gpus()
        named = os.environ.get(GPUS_VARIABLE, "")
        gpus = named.split(",")[:num_gpus] if named else [str(i) for i in range(num_gpus)]
        # processes on GPUs need a core each as well
        return cls(min(cores, max(1, count_cores() - num_gpus)) if gpus else cores, gpus)

    def count_free(self, on_gpu: bool) -> int:
        """Count free cores, or free GPUs."""
        return len(self._gpus) if on_gpu and self._has_gpus else self._cores

    def take(self, needs: Sequence[Need]) -> list[Share | None]:
        """Share out what is free.

        Args:
            needs: of stages that could start now, the most urgent first.

        Returns:
            A share for each, or None for one that has to wait.
        """
        shares: list[Share | None] = [None] * len(needs)
        for on_gpu in {need.on_gpu and self._has_gpus for need in needs}:
            places = [
                place
                for place, need in enumerate(needs)
                if (need.on_gpu and self._has_gpus) == on_gpu
            ]
            counts = share_out([needs[place] for place in places], self.count_free(on_gpu))
            for place, count in zip(places, counts, strict=True):
                if count > 0:
                    shares[place] = self._remove(count, on_gpu)
        return shares

    def give_back(self, share: Share) -> None:
        """Make the share of a stage that ended free again."""
        if share.gpus:
            self._gpus = sorted([*self._gpus, *share.gpus])
        else:
            self._cores += share.workers

    def _remove(self, count: int, on_gpu: bool) -> Share:
        if on_gpu:
            taken, self._gpus = self._gpus[:count], self._gpus[count:]
            return Share(count, tuple(taken))
        self._cores -= count
        return Share(count)


def share_out(needs: Sequence[Need], free: int) -> list[int]:
    """Share workers out among stages, whose number of workers is then fixed to their end.

    A stage makes room for the next ones, a worker for each, where all are done earlier that way by
    the estimates; otherwise it gets all that it can use, and they wait. So a short stage does not
    halve the room of a long one, and two cohorts of one length run side by side.

    Args:
        needs: the most urgent first.
        free: workers to share out.

    Returns:
        Workers for each stage; 0 for one that waits.
    """
    counts = []
    for place, need in enumerate(needs):
        whole = min(need.most, free)
        others = needs[place + 1 :]
        part = min(whole, max(1, free - len(others))) if whole else 0
        if part < whole and not _pays_to_split(need, others, part, free):
            part = whole
        counts.append(part)
        free -= part
    return counts


def _pays_to_split(need: Need, others: Sequence[Need], part: int, free: int) -> bool:
    """Compare one after the other, each with all that is free, with side by side."""
    in_turn = sum(other.estimate(min(other.most, free)) for other in (need, *others))
    alone = need.estimate(part)
    worked = part * alone + sum(other.estimate(1) for other in others)
    return max(alone, worked / free) <= in_turn


def find_needs(study: Study, stages: Sequence[str]) -> dict[str, Need]:
    """Find what each stage can use.

    Args:
        study: the present one.
        stages: names as in dvc.yaml, such as "gans@baseline".
    """
    return {stage: _find_need(study, *stage.partition("@")[::2]) for stage in stages}


def _find_need(study: Study, stage: str, name: str) -> Need:
    num_images = study.evaluation.num_images
    num_generators = sum(cohort.instances for cohort in study.gans.values())
    if stage == Kind.GANS or stage == Kind.CLASSIFIERS:
        recipe = find_recipe(study, f"{stage}/{name}")
        images = recipe.steps * recipe.batch_size * recipe.gradient_accumulation_steps
        passes = _GAN_PASSES if stage == Kind.GANS else 1
        return Need(get_cohorts(study, Kind(stage))[name].instances, images * passes, on_gpu=True)
    if stage == "audit":
        return Need(AUDITED, num_images, on_gpu=True)
    if stage in _ON_ONE_GPU:
        has_gpu = count_gpus() > 0
        return Need(1 if has_gpu else num_generators, num_images, on_gpu=True)
    if stage in _ON_CORES:
        return Need(num_generators, num_images)
    return Need()
