"""Bytes by key on a folder or on S3."""

from evalmesh.adapters.object_store.folder import FolderObjectStore
from evalmesh.adapters.object_store.opening import open_object_store
from evalmesh.adapters.object_store.s3 import S3ObjectStore

__all__ = ["FolderObjectStore", "S3ObjectStore", "open_object_store"]
