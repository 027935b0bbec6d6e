"""Names of the measures: a Frechet distance is called FID only where everybody would."""

from __future__ import annotations

import pandas as pd
import pytest

from knowledge_gaps.core.tables import format_table
from knowledge_gaps.statistics.measures import METRICS, find_metric_of, name_metric


@pytest.mark.parametrize("is_fid", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_every_column_is_found_again(metric: str, is_fid: bool) -> None:
    expected = "frechet" if metric == "fid" and not is_fid else metric
    assert find_metric_of(name_metric(metric, 4000, "mine", is_fid)) == expected


@pytest.mark.parametrize(("num_images", "count"), [(4000, "4k"), (300, "300"), (1500, "1500")])
def test_column_states_extractor_and_number_of_images(num_images: int, count: str) -> None:
    assert name_metric("fid", num_images, "inception") == f"fid_inception_{count}"


@pytest.mark.parametrize("column", ["phi", "fid", "fidelity_lenet_4k", "collapse", ""])
def test_other_columns_hold_no_metric(column: str) -> None:
    assert find_metric_of(column) is None


def test_number_just_below_zero_is_written_as_a_plain_zero() -> None:
    assert format_table(pd.DataFrame({"c2st_log10_p": [-1e-17]})) == "c2st_log10_p\n0.000000\n"
