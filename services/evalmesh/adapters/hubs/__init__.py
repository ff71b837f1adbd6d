"""Hugging Face and ModelScope: repositories at a commit, and their files on this machine.

`open_hubs` is for data sets, `snapshot` for whoever wants a folder with a model.
"""

from evalmesh.adapters.hubs.hubs import HubRules
from evalmesh.adapters.hubs.opening import open_hubs, snapshot

__all__ = ["HubRules", "open_hubs", "snapshot"]
