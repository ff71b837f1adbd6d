"""Sends what a load test or an evaluation measured to where a team keeps such things.

Each sink is one module, loaded when it is asked for, and its package is an extra. Nothing here imports more of evalmesh
than its errors: a sink whose package does not go with ours runs from an environment of its own
(`python -m evalmesh.adapters.exporters`).
"""

from evalmesh.adapters.exporters.exporting import SINKS, check, export

__all__ = ["SINKS", "check", "export"]
