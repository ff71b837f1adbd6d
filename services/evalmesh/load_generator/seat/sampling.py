"""What the server said about itself during a level."""

from collections.abc import Sequence
from typing import Any

from evalmesh.load.server.readings import Reading
from evalmesh.load.server.series import build_server


def server_document(
    samples: Sequence[Reading], start_s: float | None, document: dict[str, Any]
) -> dict[str, Any] | None:
    """The `server` object of a level's document; `None` when nobody was asked, or nobody knows when the level was.

    Args:
        samples: Of the whole load test or of this level.
        start_s: The level's start on the samples' clock; `None` after another conductor took over.
        document: The level's document without it.
    """
    if not samples or start_s is None:
        return None
    window = document["window"]
    rate = document["output_token_rate"] or 0.0
    tokens = round(rate * window["duration_s"])
    end_s = start_s + max(document["wall_s"] or 0.0, window["end_s"])
    return build_server(samples, start_s, end_s, (window["start_s"], window["end_s"]), tokens)
