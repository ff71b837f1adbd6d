"""Preparing a bucket, on a server that can do all of it and on one that cannot."""

import sys

import pytest
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from tests.kit.s3 import MotoServer, RcloneServer, running

from evalmesh.adapters.object_store import open_object_store
from evalmesh.adapters.s3_admin import BucketPlan, init_bucket
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, PermissionDenied, Unavailable


@pytest.fixture(scope="module")
def moto():
    with running(MotoServer()) as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory):
    with running(RcloneServer(tmp_path_factory.mktemp("rclone"))) as server:
        yield server


def _rules(server, bucket):
    return {rule.rule_id: rule for rule in server.client().get_bucket_lifecycle(bucket).rules}


async def test_a_bucket_is_made_and_can_be_used_at_once(moto):
    plan = BucketPlan(versioning=True, expire_runs_after_days=90)
    report = init_bucket("s3://fresh-bucket/team", moto.options, plan)
    assert (report.created, report.changed, report.skipped) == (True, ("versioning", "lifecycle"), {})
    assert moto.client().get_bucket_versioning("fresh-bucket").status == ENABLED
    by_prefix = {rule.rule_filter.prefix: rule for rule in _rules(moto, "fresh-bucket").values()}
    assert by_prefix["team/"].abort_incomplete_multipart_upload.days_after_initiation == 2
    assert by_prefix["team/runs/"].expiration.days == 90
    store = open_object_store("s3://fresh-bucket/team", moto.options)
    await store.put("a", b"1")


def test_the_second_time_nothing_changes(moto):
    plan = BucketPlan(versioning=True, expire_runs_after_days=90)
    init_bucket("s3://twice-bucket", moto.options, plan)
    again = init_bucket("s3://twice-bucket", moto.options, plan)
    assert (again.created, again.changed, again.skipped) == (False, (), {})


def test_a_changed_plan_replaces_our_rules_and_no_other_store_s(moto):
    init_bucket("s3://two-stores/one", moto.options, BucketPlan(expire_runs_after_days=9))
    init_bucket("s3://two-stores/two", moto.options, BucketPlan(expire_runs_after_days=9))
    assert init_bucket("s3://two-stores/one", moto.options).changed == ("lifecycle",)
    prefixes = sorted(rule.rule_filter.prefix for rule in _rules(moto, "two-stores").values())
    assert prefixes == ["one/", "one/.evalmesh/", "two/", "two/.evalmesh/", "two/runs/"]


def test_rules_by_somebody_else_are_left_alone(moto):
    moto.client().make_bucket("ruled-bucket")
    theirs = Rule(ENABLED, rule_filter=Filter(prefix="logs/"), rule_id="logs", expiration=Expiration(days=7))
    moto.client().set_bucket_lifecycle("ruled-bucket", LifecycleConfig([theirs]))
    report = init_bucket("s3://ruled-bucket", moto.options)
    assert report.changed == ()
    assert "by hand" in report.skipped["lifecycle"]
    assert list(_rules(moto, "ruled-bucket")) == ["logs"]


async def test_what_a_server_cannot_do_is_told_and_the_bucket_works(rclone):
    report = init_bucket("s3://plain-bucket", rclone.options, BucketPlan(versioning=True))
    assert report.created
    assert report.changed == ()
    assert set(report.skipped) == {"versioning", "lifecycle"}
    store = open_object_store("s3://plain-bucket", rclone.options)
    await store.put("a", b"1")


def test_wrong_keys_and_a_dead_server_are_told(rclone, tmp_path):
    with pytest.raises(PermissionDenied):
        init_bucket("s3://plain-bucket", rclone.options | {"secret_access_key": "w" * 20})
    with pytest.raises(Unavailable):
        init_bucket("s3://plain-bucket", RcloneServer(tmp_path).options)


def test_a_plan_that_makes_no_sense_is_refused(moto):
    with pytest.raises(InvalidInput, match="expire_runs_after_days is 0"):
        init_bucket("s3://plain-bucket", moto.options, BucketPlan(expire_runs_after_days=0))


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minio", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'evalmesh\[s3\]'"):
        init_bucket("s3://plain-bucket", {"endpoint": "http://127.0.0.1:9"})
