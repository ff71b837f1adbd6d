"""Settings of the model runner."""

from typing import ClassVar

from pydantic import Field

from evalmesh.runtime.settings import RoomSettings
from evalmesh.wire.runs.media_files import CACHE_BYTES


class ModelRunnerSettings(RoomSettings):
    """Environment prefix `EVALMESH_MODEL_RUNNER_`."""

    room: ClassVar[str] = "model_runner"

    pools: str = ""
    """Comma-separated pools to serve; empty: every pool of an engine this runner has."""
    host: str = ""
    """Of several platforms on one folder, the one whose runs are served; empty: those that are bound to none."""
    checkpoint_s: float = Field(default=0.9, gt=0)
    """Longest time a finished completion may exist only in memory."""
    activity_s: float = Field(default=0.25, gt=0)
    """Time between two reports of what is in flight."""
    idle_close_s: float = Field(default=300.0, gt=0)
    """Connections of a pool without work are closed after this."""
    roots: str = ""
    """Comma-separated folders that `model.ca_file`, and a model that runs here, may lead into; empty: none."""
    remote_code: bool = False
    """Whether a spec may have code run that it brings along (`trust_remote_code`, `engine_args`)."""
    logs_dir: str = ""
    """Folder for what engines that run here write; empty: into the log of this service."""
    hold_s: float = Field(default=1.0, gt=0)
    """A failure is kept back so long for news of other requests, when none are being asked."""
    media_cache_bytes: int = Field(default=CACHE_BYTES, ge=0)
    """Images, sounds and films kept in memory for the next request that shows them."""
