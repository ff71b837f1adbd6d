"""From a URL to a store."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from evalmesh.adapters.object_store.failures import folder_failure
from evalmesh.adapters.object_store.folder import FolderObjectStore
from evalmesh.adapters.object_store.s3 import S3ObjectStore
from evalmesh.adapters.object_store.settings import s3_settings, split_url
from evalmesh.domain.errors import InvalidInput
from evalmesh.ports.object_store import ObjectStore


def open_object_store(url: str, options: Mapping[str, str] | None = None) -> ObjectStore:
    """Opens `file:///absolute/folder` (created if absent) or `s3://bucket/prefix`; no request is sent yet.

    Options (S3 only): endpoint, region, access_key_id, secret_access_key, session_token, addressing (path, virtual),
    conditional_put (probe, yes, no), connect_timeout_s, read_timeout_s, retry_timeout_s. What is not given comes from
    EVALMESH_S3_* (EVALMESH_S3_ENDPOINT, ...), then from AWS_*. Raises `InvalidInput` for anything else.
    """
    parts = split_url(url)
    if parts.scheme == "s3":
        return S3ObjectStore(s3_settings(url, options or {}, os.environ))
    if parts.scheme != "file":
        raise InvalidInput(
            f"Object store URL {url!r} is neither file:///absolute/folder nor s3://bucket/prefix.", {"field": "url"}
        )
    folder = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not folder.is_absolute() or "\0" in str(folder):
        raise InvalidInput(
            f"Object store URL {url!r} must name an absolute folder: file:///absolute/folder.", {"field": "url"}
        )
    if options:
        raise InvalidInput(f"Object store option {next(iter(options))!r} does not apply to a folder; leave it out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InvalidInput(f"Object store URL {url!r} names a file, not a folder.", {"field": "url"}) from None
    except OSError as error:
        raise folder_failure(error, folder.as_uri(), "opening") from error
    return FolderObjectStore(folder)
