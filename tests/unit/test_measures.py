"""Names of the measures: a Frechet distance is called FID only where everybody would."""

from __future__ import annotations

import pytest

from knowledge_gaps.evaluation.extractors.choose import EXTRACTORS
from knowledge_gaps.statistics.measures import (
    DETECTION_MEASURES,
    METRICS,
    find_metric_of,
    list_metrics,
    name_frechet,
    name_metric,
)


def test_only_inception_and_the_packaged_lenet_have_an_fid() -> None:
    assert {name: name_frechet(name) for name in EXTRACTORS} == {
        "inception": "fid",
        "lenet": "fid",
        "random_vgg": "frechet",
    }


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_metrics_differ_in_the_first_name_alone(extractor: str) -> None:
    assert list_metrics(extractor)[0] == name_frechet(extractor)
    assert list_metrics(extractor)[1:] == METRICS[1:]
    assert len(set(METRICS)) == len(METRICS)
    assert len(set(DETECTION_MEASURES)) == len(DETECTION_MEASURES)


@pytest.mark.parametrize(
    ("num_images", "count"), [(4000, "4k"), (10000, "10k"), (300, "300"), (1500, "1500")]
)
def test_column_states_extractor_and_number_of_images(num_images: int, count: str) -> None:
    assert name_metric("fid", num_images, "inception") == f"fid_inception_{count}"
    assert name_metric("frechet", num_images, "random_vgg") == f"frechet_random_vgg_{count}"


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_column_is_found_again(extractor: str) -> None:
    for metric in list_metrics(extractor):
        assert find_metric_of(name_metric(metric, 4000, extractor)) == metric


@pytest.mark.parametrize("column", ["phi", "fid", "fidelity_lenet_4k", "collapse", ""])
def test_other_columns_hold_no_metric(column: str) -> None:
    assert find_metric_of(column) is None
