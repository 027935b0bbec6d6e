"""One chain more: only that chain is trained, against its own networks, and scored by them."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.training.instance import train_instance
from study_tools import (
    STAGES,
    change_params,
    copy_root,
    get_samples,
    hash_tree,
    read_table,
    run_stage,
)
from training_tools import Session

GANS = ("baseline", "fool_all_1")
COHORTS = {
    "gans/baseline": "generator.safetensors",
    "classifiers/iteration_0": "classifier.safetensors",
    "gans/fool_all_1": "generator.safetensors",
}
NOT_RUN = (("prepare",), ("spectra",), ("audit",))


@pytest.fixture(scope="module")
def root(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of `trained_root`, as of a clone, with a second chain; not to be altered."""
    root = copy_root(trained_root, tmp_path_factory.mktemp("chains") / "study")
    change_params(root, {"study.chains": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        patch.setenv("KGAPS_WORKERS", "2")
        for stage, *names in (stage for stage in STAGES if stage not in NOT_RUN):
            if stage in tuple(Kind):
                shutil.rmtree(root / "models" / stage / names[0])  # as DVC does
            run_stage(root, stage, *names)
    return root


def test_first_chain_is_not_trained_again(root: Path, trained_root: Path) -> None:
    for cohort in COHORTS:
        trainings = root / ".kgaps" / "trainings" / cohort.replace("/", "-")
        trained = {path.parent.name[:3] for path in trainings.glob("*/progress.jsonl")}
        assert trained == {"1-0", "1-1"}
        folder = Path("models") / cohort / "0"
        assert hash_tree(root / folder) == hash_tree(trained_root / folder)
    for name in ("detections", "perturbations", "quality", "judges"):
        table = read_table(root, name)
        of_first = table[table["generator_chain"] == 0].reset_index(drop=True)
        assert of_first.equals(read_table(trained_root, name))
    for name in ("agreement", "attributions"):  # of the first chain alone
        assert read_table(root, name).equals(read_table(trained_root, name))


def test_networks_and_samples_of_all_chains_differ(root: Path) -> None:
    for cohort, weights in COHORTS.items():
        files = list((root / "models" / cohort).glob(f"*/*/{weights}"))
        assert len({hash_file(file) for file in files}) == 4
    names = itertools.product(GANS, range(2), range(2))
    assert len({hash_file(get_samples(root, *name)) for name in names}) == 8


@pytest.mark.parametrize(
    ("cohort", "pool"),
    [
        ("classifiers/iteration_0", "gans/baseline"),
        ("gans/fool_all_1", "classifiers/iteration_0"),
    ],
)
def test_lineage_is_of_the_own_chain(root: Path, cohort: str, pool: str) -> None:
    for chain, number in itertools.product(range(2), range(2)):
        meta = read_json(root / "models" / cohort / f"{chain}/{number}" / "meta.json")
        assert (meta["chain"], meta["instance"]) == (chain, number)
        sha256 = hash_file(root / "models" / pool / f"{chain}/0" / COHORTS[pool])
        member = {"cohort": pool, "chain": chain, "instance": 0, "sha256": sha256}
        assert meta["lineage"]["pool"] == [member]


def test_training_is_against_the_own_chain(root: Path, tmp_path: Path) -> None:
    tasks = make_tasks(root, load_study(root / "params.yaml"), Kind.GANS, "fool_all_1")
    own = next(task for task in tasks if task.instance == Instance(1, 0))
    published = (root / "models/gans/fool_all_1/1/0/generator.safetensors").read_bytes()
    for task, is_own in ((own, True), (replace(own, members=tasks[0].members), False)):
        result = tmp_path / str(is_own)
        train_instance(task, 0, result, result.with_suffix(".state"), Session())
        assert ((result / "generator.safetensors").read_bytes() == published) is is_own


def test_pairs_of_different_chains_have_no_row(root: Path) -> None:
    table = read_table(root, "detections")
    names = ["generator_cohort", "generator_chain", "classifier_cohort", "classifier_chain"]
    counts = table.groupby(names).size().to_dict()
    expected = itertools.product(GANS, range(2))
    assert counts == {(gans, chain, "iteration_0", chain): 4 for gans, chain in expected}
    in_loss = table[table["in_loss"]]
    assert set(in_loss["generator_cohort"]) == {"fool_all_1"}
    assert in_loss.groupby("classifier_chain").size().tolist() == [2, 2]
    assert set(in_loss["classifier_instance"]) == {0}
    table = read_table(root, "perturbations")
    assert (table["generator_chain"] == table["classifier_chain"]).all()
    assert set(table["generator_chain"]) == {0, 1}


def test_judges_are_trained_and_asked_within_a_chain(root: Path, tmp_path: Path) -> None:
    """Two chains that change places change their rows."""
    swapped = copy_root(root, tmp_path / "study")
    change_params(swapped, {"evaluation.judges": ["grey_levels"]})
    for gans in GANS:
        folder = swapped / "data" / "samples" / gans
        for old, new in (("0", "other"), ("1", "0"), ("other", "1")):
            (folder / old).rename(folder / new)
    run_stage(swapped, "judges")
    found, before = read_table(swapped, "judges"), read_table(root, "judges")
    found["generator_chain"] = 1 - found["generator_chain"]
    keys = ["generator_cohort", "generator_chain", "generator_instance"]
    before = before[before["judge"] == "grey_levels"].sort_values(keys, ignore_index=True)
    assert found.sort_values(keys, ignore_index=True).equals(before)
    assert before["in_training"].sum() == 2


def test_published_instances_that_are_whole_are_kept(trained_copy: Path) -> None:
    models = trained_copy / "models"
    weights = models / "gans/baseline/0/1/generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (models / "classifiers/iteration_0/0/1/more.csv").touch()
    (models / "gans/fool_all_1/0/1/meta.json").write_text("{")
    run_stage(trained_copy, "check")
    study = load_study(trained_copy / "params.yaml")
    for cohort in COHORTS:
        kind, _, name = cohort.partition("/")
        first, second = make_tasks(trained_copy, study, Kind(kind), name)
        assert hash_tree(first.result) == hash_tree(models / cohort / "0/0")
        assert not second.directory.exists()
