"""Spectra and attributions, made by the real stages of a trained smoke study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from knowledge_gaps.analyses.attributions.measure import integrate_gradients
from knowledge_gaps.analyses.attributions.reading import COLUMNS, read
from knowledge_gaps.analyses.spectra.measure import measure_spectra
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import load_array, open_images
from knowledge_gaps.models.frozen import load_classifier
from study_tools import change_params, hash_tree, read_table, run_stage

NUM_IMAGES = 64  # of the smoke study
REPORTS = Path("reports") / "smoke"
SETS = {
    "real": ["prepared/test.npy"],
    "real_train": ["prepared/train.npy"],
    "baseline": ["samples/baseline/0/0.npy", "samples/baseline/0/1.npy"],
    "fool_all_1": ["samples/fool_all_1/0/0.npy", "samples/fool_all_1/0/1.npy"],
}

BOTH = {"extends": "c0", "cohort": "classifiers/iteration_0", "instances": [1]}

pytestmark = pytest.mark.usefixtures("one_worker")


def load_set(root: Path, name: str) -> list[np.ndarray]:
    return [open_images(root / "data" / file)[:NUM_IMAGES] for file in SETS[name]]


def test_spectra_are_of_the_first_images(trained_root: Path) -> None:
    table = read_table(trained_root, "spectra").set_index("generator_cohort")
    for name in SETS:
        spectra = [measure_spectra(images) for images in load_set(trained_root, name)]
        power = np.concatenate([one.power for one in spectra])
        np.testing.assert_allclose(table.loc[name, "power"], power, rtol=1e-5)  # six digits
        directory = trained_root / "data" / "spectra" / name
        stored = load_array(directory / "residual_spectra.npy")
        np.testing.assert_allclose(stored, [one.residual_spectrum for one in spectra], rtol=1e-6)
        stored = load_array(directory / "fingerprints.npy")
        np.testing.assert_allclose(stored, [one.fingerprint for one in spectra], atol=1e-7)


def test_dropped_cohort_leaves_no_spectra(trained_copy: Path) -> None:
    changes = {"gans.fool_all_1": None, "report.phi_sweep": ["baseline"], "report.iterations": []}
    change_params(trained_copy, changes)
    run_stage(trained_copy, "spectra")
    names = {path.name for path in (trained_copy / "data" / "spectra").iterdir()}
    assert names == {"real", "real_train", "baseline"}
    assert set(read_table(trained_copy, "spectra")["generator_cohort"]) == names


def test_attributions_by_a_direct_computation(trained_root: Path) -> None:
    reading = read(trained_root, trained_root / REPORTS)
    assert reading is not None
    assert (reading.gans, reading.classifiers) == ("fool_all_1", (0, 1))
    rows = [(name, "iteration_0", 0, 1, True, False, 64) for name in ("fool_all_1", "baseline")]
    rows.append(("real", "iteration_0", 0, 1, True, False, 128))
    assert list(reading.agreement.iloc[:, :7].itertuples(index=False, name=None)) == rows
    directory = trained_root / "models" / "classifiers" / "iteration_0" / "0"
    networks = [load_classifier(directory / str(instance)) for instance in (0, 1)]
    for row, (name, one) in zip(reading.agreement.itertuples(), reading.sets.items(), strict=True):
        stored = open_images(trained_root / "data" / SETS[name][0])
        images = to_float(torch.from_numpy(stored))
        maps = torch.stack([integrate_gradients(network, images) for network in networks]).numpy()
        agreement = [
            spearmanr(*(values[index][stored[index] > 0] for values in maps)).statistic
            for index in range(len(stored))
        ]
        # in other batches two pixels may change their order
        assert row.spearman_mean == pytest.approx(np.mean(agreement), abs=1e-4)
        assert row.spearman_std == pytest.approx(np.std(agreement, ddof=1), abs=1e-4)
        assert np.array_equal(one.images, stored[:8])
        np.testing.assert_allclose(one.attributions, maps[:, :8], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(one.means, np.abs(maps).mean(axis=1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "iterations", [[], [{"gans": "baseline", "classifiers": "iteration_0"}]], ids=["none", "one"]
)
def test_study_without_fooling_gets_a_header(
    trained_copy: Path, iterations: list[dict[str, str]]
) -> None:
    change_params(trained_copy, {"report.iterations": iterations})
    run_stage(trained_copy, "attributions")
    text = (trained_copy / REPORTS / "attributions.csv").read_text()
    assert text == ",".join(COLUMNS) + "\n"
    assert read(trained_copy, trained_copy / REPORTS) is None


@pytest.mark.parametrize(
    ("changes", "classifiers", "pairs"),
    [
        ({"pools.c0_c1": BOTH, "gans.fool_all_1.fools": "c0_c1"}, (0,), set()),
        ({"pools.c0.instances": [1]}, (1, 0), {(1, 0, True, False)}),
    ],
    ids=["none is held out", "the one in the loss is first"],
)
def test_first_classifier_of_the_pool_is_compared_with_held_out_ones(
    trained_copy: Path, changes: dict[str, object], classifiers: tuple[int, ...], pairs: set[object]
) -> None:
    change_params(trained_copy, changes)
    run_stage(trained_copy, "attributions")
    reading = read(trained_copy, trained_copy / REPORTS)
    assert reading is not None
    assert reading.classifiers == classifiers
    assert reading.sets["baseline"].attributions.shape == (len(classifiers), 8, 1, 28, 28)
    found = reading.agreement[["classifier_a", "classifier_b", "a_in_loss", "b_in_loss"]]
    assert set(found.itertuples(index=False, name=None)) == pairs


def test_one_worker_writes_the_same_bytes(trained_root: Path, trained_copy: Path) -> None:
    for stage in ("spectra", "attributions"):
        run_stage(trained_copy, stage)
        directory, table = Path("data") / stage, REPORTS / f"{stage}.csv"
        assert hash_tree(trained_copy / directory) == hash_tree(trained_root / directory)
        assert (trained_copy / table).read_bytes() == (trained_root / table).read_bytes()
