"""`ServerMetrics` over Prometheus addresses and NVIDIA's driver."""

from evalmesh.adapters.server_metrics.opening import open_server_metrics

__all__ = ["open_server_metrics"]
