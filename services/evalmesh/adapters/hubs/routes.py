"""What the hubs are asked, and what their answers mean: the only place that knows their routes.

Hugging Face: `/api/{kind}s/{id}/revision/{revision}?blobs=true` names the commit and all files, and
`/{datasets/}{id}/resolve/{commit}/{path}` is a file. ModelScope: `/api/v1/datasets/{id}/repo/tree` and
`/api/v1/models/{id}/repo/files` list files, and `.../repo?Revision=&FilePath=` is one.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from evalmesh.adapters.hubs.http import HubHttp, Refused
from evalmesh.adapters.hubs.settings import HubAccess
from evalmesh.domain.errors import EvalmeshError, NotFound, PermissionDenied, Unavailable
from evalmesh.domain.hub import BRANCHES, TITLES, Repo, RepoFile, Snapshot, is_commit

_PAGE = 200
_MOST_FILES = 100_000
_NEAREST = 5


async def look(http: HubHttp, repo: Repo, revision: str) -> Snapshot:
    """The repository at a revision; empty: its main branch.

    Raises `NotFound`, which names the nearest, `PermissionDenied`, which says what to do, and `Unavailable`.
    """
    wanted = revision or BRANCHES[repo.hub]
    ask = _look_at_huggingface if repo.hub == "huggingface" else _look_at_modelscope
    try:
        snapshot = await ask(http, repo, wanted)
    except Refused as refused:
        raise await meaning(http, repo, wanted, refused) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable(f"{http.where} answered about {repo.id} in a way that is not understood.") from None
    if is_commit(wanted) and snapshot.commit != wanted and is_commit(snapshot.commit):
        raise Unavailable(f"{http.where} was asked for {repo.id} at {wanted} and answered with {snapshot.commit}.")
    return snapshot


def file_path(repo: Repo, commit_or_revision: str, path: str) -> str:
    """Where a file is, under the hub's address."""
    if repo.hub == "huggingface":
        prefix = "/datasets/" if repo.kind == "dataset" else "/"
        return f"{prefix}{repo.id}/resolve/{quote(commit_or_revision, safe='')}/{quote(path)}"
    where = f"Revision={quote(commit_or_revision, safe='')}&FilePath={quote(path, safe='')}"
    return f"/api/v1/{repo.kind}s/{repo.id}/repo?{where}"


def page_of(access: HubAccess, repo: Repo) -> str:
    """Where people look at it."""
    if repo.hub == "huggingface":
        return f"{access.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"
    return f"{access.endpoint}/{repo.kind}s/{repo.id}"


async def _look_at_huggingface(http: HubHttp, repo: Repo, revision: str) -> Snapshot:
    route = f"/api/{repo.kind}s/{repo.id}/revision/{quote(revision, safe='')}"
    found, _ = await http.json(route, {"blobs": "true"})
    files = [
        RepoFile(one["rfilename"], int((one.get("lfs") or one)["size"]), **_sums(one)) for one in found["siblings"]
    ]
    if found.get("gated"):
        # What it holds is told to all; who may have it, only here.
        if not http.access.token:
            raise Refused(401, "GatedRepo", "")
        await http.status(f"/api/{repo.kind}s/{repo.id}/auth-check")
    commit = str(found["sha"])
    if not is_commit(commit):
        raise ValueError
    return Snapshot(repo, revision, commit, _usable(files))


def _sums(sibling: Mapping[str, Any]) -> dict[str, str]:
    lfs = sibling.get("lfs")
    return {"sha256": str(lfs["sha256"])} if lfs else {"git_oid": str(sibling.get("blobId") or "")}


async def _look_at_modelscope(http: HubHttp, repo: Repo, revision: str) -> Snapshot:
    suffix = "repo/tree" if repo.kind == "dataset" else "repo/files"
    files: dict[str, RepoFile] = {}
    told = ""
    for page in range(1, _MOST_FILES // _PAGE):
        asked = {"Revision": revision, "Recursive": "True", "PageNumber": str(page), "PageSize": str(_PAGE)}
        body, _ = await http.json(f"/api/v1/{repo.kind}s/{repo.id}/{suffix}", asked)
        if body.get("Code", 200) not in {200, "200", None} or body.get("Success") is False:
            raise Refused(int(body.get("Code") or 0) or 404, "", str(body.get("Message") or ""))
        data = body["Data"]
        entries = data if isinstance(data, list) else data.get("Files") or []
        told = told or _commit_of(data)
        before = len(files)
        for one in entries:
            if (one.get("Type") or "blob") != "tree":
                path = str(one.get("Path") or one["Name"])
                files[path] = RepoFile(path, int(one.get("Size") or 0), sha256=str(one.get("Sha256") or ""))
        # A server that knows no pages answers each time with everything.
        if len(entries) < _PAGE or len(files) == before or repo.kind == "model":
            break
    kept = _usable(files.values())
    return Snapshot(repo, revision, revision if is_commit(revision) else told or _sum_of(kept), kept)


def _commit_of(data: object) -> str:
    """The whole one alone: the short one that some answers have instead is no address."""
    latest = data.get("LatestCommitter") if isinstance(data, dict) else None
    commit = str((latest or {}).get("Id") or "")
    return commit if is_commit(commit) else ""


def _sum_of(files: Iterable[RepoFile]) -> str:
    names = json.dumps([[one.path, one.size_bytes, one.sha256] for one in files]).encode()
    return f"files-{hashlib.sha256(names).hexdigest()[:32]}"


def _usable(files: Iterable[RepoFile]) -> tuple[RepoFile, ...]:
    return tuple(sorted((one for one in files if one.is_safe), key=lambda one: one.path))


async def meaning(http: HubHttp, repo: Repo, revision: str, refused: Refused) -> EvalmeshError:
    """What a refusal means, and what to do about it."""
    details = {"field": "dataset_id" if repo.kind == "dataset" else "model", "value": repo.id}
    page, access = page_of(http.access, repo), http.access
    names = " or ".join(access.token_names[:1])
    give = f"give a token in {names}, or by a connection to {access.endpoint}"
    told = f" ({refused.told.rstrip('.')})" if refused.told else ""
    if refused.code == "GatedRepo" or (refused.status == 403 and refused.code != "RepoNotFound"):
        known = f"the account behind {access.token_from} has no access" if access.token else f"afterwards {give}"
        return PermissionDenied(
            f"{repo} is for those alone who have asked for access{told}: do so at {page}; {known}.", details
        )
    if refused.code == "RevisionNotFound" or (refused.status == 404 and await _exists(http, repo)):
        near = await _nearest_revision(http, repo, revision)
        return NotFound(f"{repo} has no revision {revision!r}.{near}", {"field": "revision", "value": revision})
    if refused.status in {401, 404}:
        if access.token and refused.status == 401 and refused.code != "RepoNotFound":
            return PermissionDenied(f"{http.where} does not accept the token of {access.token_from}{told}.", details)
        near = await _nearest_repo(http, repo)
        private = "" if access.token else f" If it is private, {give}."
        return NotFound(f"There is no {repo.kind} {repo.id} on {TITLES[repo.hub]}{told}.{near}{private}", details)
    return Unavailable(f"{http.where} answered {refused.status} about {repo.id}{told}.", details)


async def _exists(http: HubHttp, repo: Repo) -> bool:
    """Whether a repository that has no such revision is there at all."""
    route = f"/api/{repo.kind}s/{repo.id}" if repo.hub == "huggingface" else f"/api/v1/{repo.kind}s/{repo.id}/revisions"
    try:
        await http.json(route)
    except (Refused, EvalmeshError):
        return False
    return True


async def _nearest_revision(http: HubHttp, repo: Repo, revision: str) -> str:
    try:
        if repo.hub == "huggingface":
            found, _ = await http.json(f"/api/{repo.kind}s/{repo.id}/refs")
            known = [one["name"] for kind in ("branches", "tags") for one in found.get(kind) or []]
        else:
            found, _ = await http.json(f"/api/v1/{repo.kind}s/{repo.id}/revisions")
            map_ = found["Data"].get("RevisionMap") or {}
            known = [one["Revision"] for kind in ("Branches", "Tags") for one in map_.get(kind) or []]
    except (Refused, EvalmeshError, KeyError, TypeError, AttributeError):
        return ""
    return _suggestion(revision, known)


async def _nearest_repo(http: HubHttp, repo: Repo) -> str:
    if repo.hub != "huggingface":
        return ""
    try:
        found, _ = await http.json(f"/api/{repo.kind}s", {"search": repo.id.rpartition("/")[2], "limit": "20"})
        return _suggestion(repo.id, [str(one["id"]) for one in found])
    except (Refused, EvalmeshError, KeyError, TypeError):
        return ""


def _suggestion(wanted: str, known: list[str]) -> str:
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5) or known[:1]
    others = [one for one in known if one not in near][: _NEAREST - 1]
    if not near:
        return ""
    return f" Did you mean {near[0]!r}?" + (f" There are also {', '.join(others)}." if others else "")
