"""Hubs opened from what a process knows: its environment, its connections, the store it shares with others."""

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from evalmesh.adapters.hubs.hubs import HubClient, HubRules
from evalmesh.adapters.hubs.settings import hub_settings
from evalmesh.adapters.hubs.source import HubDatasets
from evalmesh.adapters.hubs.store import SharedFiles, TakeLease
from evalmesh.domain.errors import NotFound
from evalmesh.domain.hub import HubName, Repo, RepoKind
from evalmesh.ports.hubs import Note
from evalmesh.ports.object_store import ObjectStore


def open_hubs(
    *,
    store: ObjectStore | None = None,
    take_lease: TakeLease | None = None,
    key_of: Callable[[str], str] | None = None,
    restricted: bool = False,
    environ: Mapping[str, str] | None = None,
) -> HubDatasets:
    """Data sets of hubs.

    Args:
        store: Where what is downloaded is kept for all; with it goes `take_lease`.
        take_lease: Sees to it that one machine at a time downloads.
        key_of: The key that a declared connection has for an address.
        restricted: Whether some addresses are out of reach (`HubRules`).
        environ: Variables; `None`: those of this process.

    Raises:
        InvalidInput: A variable names an address that is none.
    """
    rules = HubRules(restricted, key_of or (lambda _: ""))
    shared = SharedFiles(store, take_lease) if store is not None and take_lease is not None else None
    return HubDatasets(HubClient(hub_settings(environ), rules, shared))


async def snapshot(  # noqa: PLR0913  (what of which repository, and for whom)
    repo: str,
    kind: RepoKind = "model",
    revision: str = "",
    patterns: Sequence[str] = (),
    *,
    hub: HubName = "huggingface",
    note: Note | None = None,
    rules: HubRules | None = None,
) -> Path:
    """The folder with the files of a repository at a revision, on this machine: in a cache already, or downloaded.

    Args:
        repo: `organisation/name`.
        kind: What it holds.
        revision: A branch, a tag or a commit; empty: the main branch. The folder is named after the commit.
        patterns: Only files whose path, or whose name, fits one of these (`*.safetensors`); empty: all.
        hub: Where it is published.
        note: Told how far it has come.
        rules: What may be asked; `None`: anything, with the environment's own tokens.

    Raises:
        NotFound: There is no such repository, revision, or file that fits.
        FailedPrecondition: It is not on this machine, and the environment says offline.
        PermissionDenied, Unavailable, ResourceExhausted, Conflict, InvalidInput: As found.
    """
    client = HubClient(hub_settings(os.environ), rules)
    wanted = Repo(hub, repo, kind)
    wanted.check("model" if kind == "model" else "dataset_id", revision)
    found = client.cache.known(wanted, revision) if client.offline else None
    found = found or await client.look(wanted, revision)
    files = [one for one in found.files if not patterns or any(_fits(one.path, pattern) for pattern in patterns)]
    if not files:
        raise NotFound(
            f"{wanted} at {found.commit} has no file like {', '.join(patterns) or '*'}; it has "
            f"{', '.join(one.path for one in found.files[:8]) or 'none'}.",
            {"field": "model", "value": repo},
        )
    return await client.bring(found, files, note)


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path.rpartition("/")[2], pattern)
