from tests.kit.nats import nats_connection, nats_server

__all__ = ["nats_connection", "nats_server"]
