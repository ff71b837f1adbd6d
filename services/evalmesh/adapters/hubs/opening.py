"""Hubs opened from what a process knows: its environment, its connections, the store it shares with others."""

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from evalmesh.adapters.hubs.hubs import HubClient, HubRules
from evalmesh.adapters.hubs.settings import hub_settings
from evalmesh.adapters.hubs.source import HubDatasets
from evalmesh.adapters.hubs.store import SharedFiles, TakeLease
from evalmesh.domain.errors import NotFound, Unavailable
from evalmesh.domain.hub import HubName, Repo, RepoFile
from evalmesh.ports.hubs import Note
from evalmesh.ports.object_store import ObjectStore

_WEIGHTS = ("model*.safetensors", "*.safetensors", "pytorch_model*.bin", "*.bin")
"""In order: the first of which there is any file is taken."""
_BESIDE = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")


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


async def model_folder(
    repo: str, revision: str, hub: HubName, rules: HubRules | None = None, note: Note | None = None
) -> Path:
    """The folder with what a library needs to run a model, on this machine: in a cache already, or downloaded.

    Of weights in several formats safetensors alone are brought. A hub that is out of reach matters only for a model
    that is not on this machine.

    Args:
        repo: `organisation/name`.
        revision: A branch, a tag or a commit; empty: the main branch. The folder is named after the commit.
        hub: Where it is published.
        rules: What may be asked; `None`: anything, with the environment's own tokens.
        note: Told how far it has come.

    Raises:
        NotFound: There is no such repository or revision, or no weights in it.
        FailedPrecondition: It is not on this machine, and the environment says offline.
        PermissionDenied, Unavailable, ResourceExhausted, Conflict, InvalidInput: As found.
    """
    client, wanted = HubClient(hub_settings(os.environ), rules), Repo(hub, repo, "model")
    wanted.check("model", revision)
    known = client.cache.known(wanted, revision)
    if known is not None and client.offline:
        return await client.bring(known, known.files, note)
    try:
        found = await client.look(wanted, revision)
    except Unavailable:
        if known is None:
            raise
        return await client.bring(known, known.files, note)
    return await client.bring(found, _to_run(wanted, found.files), note)


def _to_run(repo: Repo, files: Sequence[RepoFile]) -> list[RepoFile]:
    """Folders of a model's repository hold it in formats of other programs."""
    here = [one for one in files if "/" not in one.path or one.path.startswith("additional_chat_templates/")]
    weights = next(
        (found for pattern in _WEIGHTS if (found := [one for one in here if fnmatchcase(one.path, pattern)])), []
    )
    if not weights:
        raise NotFound(
            f"{repo} has no weights that are run here ({', '.join(_WEIGHTS)}); it has "
            f"{', '.join(one.path for one in files[:8]) or 'no files'}.",
            {"field": "model", "value": repo.id},
        )
    return [one for one in here if any(fnmatchcase(one.path, pattern) for pattern in _BESIDE)] + weights
