"""The machine is shared out whole, never twice, and to whom it helps."""

from __future__ import annotations

import pytest

from knowledge_gaps.orchestration.machine import Need, Room, Share, find_needs, share_out
from knowledge_gaps.stages.audit import AUDIT_INSTANCES, FAULTS
from knowledge_gaps.study import PARAMS_FILE, load_study
from study_tools import REPOSITORY

LONG = Need(most=4, images=1_000_000)
SHORT = Need(most=1, images=1)


def test_alone_a_stage_gets_all_that_it_can_use() -> None:
    assert share_out([LONG], 2) == [2]
    assert share_out([LONG], 8) == [4]
    assert share_out([LONG], 0) == [0]


def test_two_cohorts_of_one_length_run_side_by_side() -> None:
    assert share_out([LONG, LONG], 2) == [1, 1]
    assert share_out([LONG, LONG, LONG], 2) == [1, 1, 0]
    assert share_out([LONG, LONG], 6) == [4, 2]


def test_a_short_stage_does_not_halve_a_long_one() -> None:
    # 2 starts + 2 instances after each other in turn; a start + 4 instances beside the short one
    assert share_out([LONG, SHORT], 2) == [2, 0]
    assert share_out([LONG, SHORT], 5) == [4, 1]


def test_starts_overlap_where_they_are_most_of_the_work() -> None:
    assert share_out([Need(2, 1), Need(2, 1)], 2) == [1, 1]


@pytest.mark.parametrize("free", range(1, 9))
@pytest.mark.parametrize("num_long", range(4))
def test_no_more_is_handed_out_than_is_free(free: int, num_long: int) -> None:
    needs = [LONG] * num_long + [SHORT] * 3
    counts = share_out(needs, free)
    assert sum(counts) <= free
    assert all(count <= need.most for count, need in zip(counts, needs, strict=True))
    assert counts[0] > 0


def test_gpus_and_cores_are_shared_out_apart() -> None:
    room = Room(cores=2, gpus=("0", "5", "7"))
    training, table = Need(2, 10**6, on_gpu=True), Need(9, 10**6)
    shares = room.take([training, table, training])
    assert shares == [Share(2, ("0", "5")), Share(2), Share(1, ("7",))]
    assert room.take([training, table]) == [None, None]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[0].describe() == {"CUDA_VISIBLE_DEVICES": "0,5", "KGAPS_WORKERS": "2"}
    assert shares[1].describe() == {"KGAPS_WORKERS": "2"}
    room.give_back(shares[0])
    assert room.take([Need(1, 1, on_gpu=True)]) == [Share(1, ("0",))]


def test_without_gpus_all_is_shared_out_of_cores() -> None:
    room = Room(cores=2)
    assert room.take([Need(2, 10**6, on_gpu=True)]) == [Share(2)]
    assert room.count_free(on_gpu=True) == room.count_free(on_gpu=False) == 0


def test_workers_variable_is_the_size_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_DEVICE", "cpu")
    monkeypatch.setenv("KGAPS_WORKERS", "5")
    assert Room.of_this_machine().count_free(on_gpu=False) == 5


def test_needs_come_from_the_study() -> None:
    study = load_study(REPOSITORY / PARAMS_FILE)
    needs = find_needs(study, ["check", "gans@baseline", "classifiers@n_1", "samples"])
    gans, recipe = study.gans["baseline"], study.gan_recipes["dcgan"]
    assert needs["check"] == Need()
    assert needs["gans@baseline"].most == gans.instances
    assert needs["gans@baseline"].images == 3 * recipe.steps * recipe.batch_size
    assert needs["classifiers@n_1"].most == study.classifiers["n_1"].instances
    num_generators = sum(cohort.instances for cohort in study.gans.values())
    assert needs["samples"] == Need(num_generators, study.evaluation.num_images, on_gpu=True)


def test_the_audit_needs_a_worker_for_each_of_its_classifiers() -> None:
    need = find_needs(load_study(REPOSITORY / PARAMS_FILE), ["audit"])["audit"]
    assert (need.most, need.on_gpu) == (AUDIT_INSTANCES + len(FAULTS), True)
