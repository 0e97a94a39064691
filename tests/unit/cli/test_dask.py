"""A campaign on a Dask cluster: workers of this process here, which speak to it over a socket all the same."""

from __future__ import annotations

import warnings

import pytest

from kafkasim.cli.explore import dask_executor
from kafkasim.errors import ConfigurationError
from kafkasim.explore.campaign import explore

BUG = "tests.unit.explore.scenes:commits_first"


@pytest.mark.filterwarnings("ignore")
def test_the_same_seeds_give_the_same_result_on_a_dask_cluster() -> None:
    """Two workers that run one trial at a time between them, as they share a process."""
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        dask_executor(cluster.scheduler_address) as executor,
    ):
        assert executor.workers == 2
        there = explore(BUG, seed=2, seeds=8, executor=executor, workers=executor.workers).as_json()
    here = explore(BUG, seed=2, seeds=8).as_json()
    for told in (here, there):
        del told["wall_seconds"]
    assert there == here


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_without_workers_is_no_place_to_run() -> None:
    """Said before anything is."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as cluster,
        pytest.raises(ConfigurationError, match="has no workers"),
        dask_executor(cluster.scheduler_address),
    ):
        pass
