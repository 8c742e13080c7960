"""The same images from a Dask cluster, and one sentence where it cannot be used."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from distributed import LocalCluster
from PIL import Image
from samples import params, texture, written

from semdefect import cluster
from semdefect.balance import BaseImage, plan, write_images
from semdefect.cluster import in_parallel
from semdefect.errors import UserError
from semdefect.shards import write_shards


@pytest.fixture(scope="module")
def scheduler():
    """The address of a cluster of two processes, two threads each."""
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Rendered images of every class, and a real one with children."""
    base = tmp_path_factory.mktemp("real") / "a.png"
    Image.fromarray(texture(1, 96)).save(base)
    settings = params(synthesize={"images_per_class": 8}).synthesize
    return plan([BaseImage(base, "crack", "crack/a.png", "real-00000")], settings, 1)


def test_a_cluster_writes_the_same_bytes_as_one_process(scheduler, jobs, tmp_path):
    here = write_images(jobs, tmp_path / "here", 64, workers=1)
    assert write_images(jobs, tmp_path / "there", 64, 0, scheduler) == here
    assert written(tmp_path / "there") == written(tmp_path / "here")
    write_shards(tmp_path / "shards here", jobs, 64, per_shard=20, workers=1)
    write_shards(tmp_path / "shards there", jobs, 64, per_shard=20, scheduler=scheduler)
    assert written(tmp_path / "shards there") == written(tmp_path / "shards here")


def test_base_images_are_sent_and_need_not_be_where_the_workers_are(scheduler, jobs, tmp_path, monkeypatch):
    """Without their file a worker that tried to read it would say so."""
    real = [job for job in jobs if job.base]
    assert {job.augmented for job in real} == {True, False}
    gone = [replace(job, base=replace(job.base, path=tmp_path / "not there.png")) for job in real]
    monkeypatch.setattr("semdefect.balance.sent_pixels", lambda job, size, scheduler: texture(1, 96)[:size, :size])
    assert len(write_images(gone, tmp_path / "out", 64, 0, scheduler)) == len(real)


def test_an_error_of_a_task_comes_back_as_it_is(scheduler):
    with pytest.raises(UserError, match="is too small to render"):
        list(in_parallel(cluster.synthesis.render, [("via", 1, 8)], 0, scheduler))


def test_a_worker_that_would_draw_other_images_is_refused(scheduler, monkeypatch):
    ours = ("renderer 0.9 (abc)", *cluster.fingerprint()[1:])
    monkeypatch.setattr(cluster, "fingerprint", lambda: ours)
    with pytest.raises(UserError, match=r"Dask worker on .* has .* and this machine renderer 0\.9"):
        list(in_parallel(np.square, [(2,)], 0, scheduler))


def test_a_worker_that_joins_later_is_asked_too(scheduler, monkeypatch):
    ours = ("renderer 0.9 (abc)", *cluster.fingerprint()[1:])
    monkeypatch.setattr(cluster, "_require_workers", lambda *_: None)
    monkeypatch.setattr(cluster, "fingerprint", lambda: ours)
    with pytest.raises(UserError, match="would draw other images"):
        list(in_parallel(np.square, [(2,)], 0, scheduler))


def test_a_scheduler_that_is_not_there_is_one_sentence_soon(jobs, tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 .*start one"):
        write_images(jobs, tmp_path, 64, 0, "tcp://127.0.0.1:1")
    assert time.monotonic() - start < 10


def test_a_cluster_without_workers_is_one_sentence(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "FIRST_WORKER", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(UserError, match="has no workers: start some with `dask worker tcp"),
    ):
        write_images(jobs, tmp_path, 64, 0, empty.scheduler_address)


def test_a_cluster_that_returns_nothing_is_one_sentence(scheduler):
    with pytest.raises(UserError, match=r"returned nothing for 1 s: look at their logs"):
        list(in_parallel(time.sleep, [(4,)], 0, scheduler, patience=1))


def test_a_scheduler_with_tls_and_no_certificates_is_one_sentence():
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tls://127\.0\.0\.1:1 "):
        list(in_parallel(np.square, [(2,)], 0, "tls://127.0.0.1:1"))


def test_without_the_packages_the_extra_is_named(jobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"semdefect\[dask\]"):
        write_images(jobs, tmp_path, 64, 0, "tcp://127.0.0.1:8786")


@pytest.mark.parametrize("address", ["host:8786", "http://host:8786", "tcp://host", "tcp://:8786/", "8786"])
def test_what_is_no_address_is_refused_before_any_work(address):
    with pytest.raises(UserError, match=r"no address of a Dask scheduler: write tcp://host:8786"):
        params(synthesize={"dask_scheduler": address})
