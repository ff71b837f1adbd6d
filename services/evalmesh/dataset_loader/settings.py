"""Settings of the data set loader."""

from typing import ClassVar

from evalmesh.runtime.settings import RoomSettings


class DatasetLoaderSettings(RoomSettings):
    """Environment prefix `EVALMESH_DATASET_LOADER_`."""

    room: ClassVar[str] = "dataset_loader"

    dataset_dir: str = ""
    """Folder searched for data sets when a run names none."""
    roots: str = ""
    """Comma-separated folders that `local_path` and `dataset_dir` of a run may lead into, beside `dataset_dir`."""
