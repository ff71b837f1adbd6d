"""Records of load tests in the JetStream bucket `load_tests`."""

from evalmesh.adapters.nats.bucket import Bucket
from evalmesh.adapters.nats.connection import NatsConnection
from evalmesh.adapters.nats.records import Records
from evalmesh.domain.load_test import LoadTest
from evalmesh.wire import codec, subjects

NatsLoadTestStore = Records[LoadTest]
"""See `ports.records.RecordStore`; made by `open_load_test_store`."""


async def open_load_test_store(connection: NatsConnection, replicas: int = 1) -> NatsLoadTestStore:
    """The store on this connection; its bucket exists afterwards. Raises `Unavailable`, `FailedPrecondition`."""
    bucket = Bucket(connection, subjects.LOAD_TESTS_BUCKET, replicas)
    await bucket.ensure()
    connection.restorers.append(bucket.ensure)
    return Records(bucket, "load test", codec.encode_load_test, codec.decode_load_test)
