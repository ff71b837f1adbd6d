"""A hub on two ports of this machine: Hugging Face's and ModelScope's protocols, and the storage they redirect to.

Storage is another origin, as it is in the world. What goes wrong there is asked for by the knobs of `Hub`.
"""

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web
from aiohttp.test_utils import TestServer

LARGE_BYTES = 100
"""Files from here on are kept in storage (Git LFS); smaller ones are Git's own."""


@dataclass
class Repository:
    """One data set or model: what each commit holds, and what its branches are."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Adds one on a branch, `master` included."""
        name = hashlib.sha1(repr(sorted(files.items())).encode() + branch.encode()).hexdigest()
        self.commits[name] = dict(files)
        self.branches[branch] = self.branches["master"] = name
        return name

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """What it holds, what it does wrong, and what it was asked."""

    repos: dict[str, Repository] = field(default_factory=dict)
    """By id."""
    token: str = ""
    """Whoever shows it may see gated repositories."""
    cut_after: list[int] = field(default_factory=list)
    """Storage breaks its next answers off after so many bytes each."""
    busy: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers of the hub."""
    storage_busy: list[int] = field(default_factory=list)
    spoilt: set[str] = field(default_factory=set)
    """Paths that storage gives other bytes for."""
    ranges: bool = True
    tells_commit: bool = True
    """Whether ModelScope's listing names the commit."""
    storage_url: str = ""
    url: str = ""
    redirect_to: str = ""
    """Where storage is said to be, instead of where it is."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(`hub` or `storage`, path, headers) of each request."""

    def add(self, id_: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        return self.repos.setdefault(id_, Repository()).commit(files, branch)

    def pin(self, id_: str, name: str) -> None:
        """Gives the newest commit of a repository another name, as if it were that one."""
        repo = self.repos[id_]
        repo.commits[name] = repo.commits[repo.branches["main"]]

    def fetches(self) -> Counter[str]:
        """How often each path was asked of the hub as a file."""
        return Counter(path.rpartition("/resolve/")[2] for where, path, _ in self.asked if "/resolve/" in path)

    def environment(self) -> dict[str, str]:
        """For clients."""
        return {"HF_ENDPOINT": self.url, "MODELSCOPE_ENDPOINT": self.url, "HF_HUB_OFFLINE": ""}


@asynccontextmanager
async def running(hub: Hub | None = None) -> AsyncIterator[Hub]:
    """Serves until the block ends."""
    hub = hub or Hub()
    front, storage = TestServer(_front(hub)), TestServer(_storage(hub))
    await storage.start_server()
    await front.start_server()
    hub.storage_url, hub.url = str(storage.make_url("")).rstrip("/"), str(front.make_url("")).rstrip("/")
    try:
        yield hub
    finally:
        await front.close()
        await storage.close()


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """The same in a thread of its own, for tests that wait for commands."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running(hub):
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield hub
    finally:
        done.set()
        thread.join()


def _front(hub: Hub) -> web.Application:
    app = web.Application(middlewares=[_noted(hub, "hub")])
    for kind in ("datasets", "models"):
        for id_ in ("{org}/{name}", "{name}"):
            base = f"/api/{kind}/{id_}"
            app.router.add_get(f"{base}/revision/{{revision}}", partial(_info, hub))
            app.router.add_get(f"{base}/refs", partial(_refs, hub))
            app.router.add_get(f"{base}/auth-check", partial(_may_see, hub))
        scope = f"/api/v1/{kind}/{{org}}/{{name}}"
        app.router.add_get(f"{scope}/repo/tree", partial(_tree, hub))
        app.router.add_get(f"{scope}/repo/files", partial(_tree, hub))
        app.router.add_get(f"{scope}/revisions", partial(_revisions, hub))
        app.router.add_get(f"{scope}/repo", partial(_scope_file, hub))
        app.router.add_get(f"/api/{kind}/{{org}}/{{name}}", partial(_info, hub))
        app.router.add_get(f"/api/{kind}", partial(_search, hub))
    for prefix in ("/datasets", ""):
        app.router.add_get(prefix + "/{org}/{name}/resolve/{revision}/{path:.+}", partial(_resolve, hub))
    return app


def _storage(hub: Hub) -> web.Application:
    app = web.Application(middlewares=[_noted(hub, "storage")])
    app.router.add_get("/blobs/{path:.+}", partial(_blob, hub))
    return app


def _noted(hub: Hub, where: str):
    @web.middleware
    async def note(request: web.Request, handler):
        hub.asked.append((where, request.path, dict(request.headers)))
        if where == "hub" and hub.busy:
            status, headers = hub.busy.pop(0)
            return web.Response(status=status, headers=headers)
        return await handler(request)

    return note


def _id(request: web.Request) -> str:
    return "/".join(request.match_info[part] for part in ("org", "name") if part in request.match_info)


def _refused(status: int, code: str, message: str = "") -> web.Response:
    return web.json_response(
        {"error": message or code}, status=status, headers={"X-Error-Code": code, "X-Error-Message": message or code}
    )


def _admitted(hub: Hub, request: web.Request) -> Repository | web.Response:
    repo = hub.repos.get(_id(request))
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if shown and hub.token and shown != hub.token:
        return _refused(401, "", "Invalid credentials in Authorization header")
    if repo is None:
        return _refused(404 if shown else 401, "RepoNotFound", "Repository not found")
    if repo.gated and shown != (hub.token or None):
        return _refused(401 if not shown else 403, "GatedRepo", "Access to this data set is restricted.")
    return repo


async def _info(hub: Hub, request: web.Request) -> web.Response:
    repo = hub.repos.get(_id(request))
    if repo is None:
        return _refused(401, "RepoNotFound", "Repository not found")
    commit = repo.find(request.match_info.get("revision", "main"))
    if hub.token and request.headers.get("Authorization", f"Bearer {hub.token}") != f"Bearer {hub.token}":
        return _refused(401, "", "Invalid credentials in Authorization header")
    if commit is None:
        return _refused(404, "RevisionNotFound", f"Invalid rev id: {request.match_info['revision']}")
    assert "revision" not in request.match_info or request.query["blobs"] == "true"
    siblings = []
    for path, data in repo.commits[commit].items():
        one = {"rfilename": path, "size": len(data), "blobId": _git_oid(data)}
        if len(data) >= LARGE_BYTES:
            one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        siblings.append(one)
    return web.json_response({"id": _id(request), "sha": commit, "siblings": siblings, "gated": repo.gated})


async def _may_see(hub: Hub, request: web.Request) -> web.Response:
    repo = _admitted(hub, request)
    return repo if isinstance(repo, web.Response) else web.Response()


async def _refs(hub: Hub, request: web.Request) -> web.Response:
    branches = [{"name": name, "targetCommit": commit} for name, commit in hub.repos[_id(request)].branches.items()]
    return web.json_response({"branches": branches, "tags": [], "converts": []})


async def _search(hub: Hub, request: web.Request) -> web.Response:
    return web.json_response([{"id": id_} for id_ in hub.repos if request.query["search"] in id_])


async def _resolve(hub: Hub, request: web.Request) -> web.Response:
    repo = _admitted(hub, request)
    if isinstance(repo, web.Response):
        return repo
    commit = repo.find(request.match_info["revision"])
    data = repo.commits.get(commit or "", {}).get(request.match_info["path"])
    if commit is None or data is None:
        return _refused(404, "EntryNotFound")
    told = {"X-Repo-Commit": commit}
    if len(data) < LARGE_BYTES:
        return web.Response(body=data, headers={**told, "ETag": f'"{_git_oid(data)}"'})
    sha256 = hashlib.sha256(data).hexdigest()
    told |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "ETag": f'"{sha256}"'}
    where = (
        hub.redirect_to or f"{hub.storage_url}/blobs/{_id(request)}/{commit}/{request.match_info['path']}?sign=a%2Fb"
    )
    return web.Response(status=302, headers={**told, "Location": where})


async def _blob(hub: Hub, request: web.Request) -> web.StreamResponse:
    if "Authorization" in request.headers or "Cookie" in request.headers:
        return web.Response(status=400, text="storage was shown a key")
    if hub.storage_busy:
        return web.Response(status=hub.storage_busy.pop(0))
    org, name, commit, path = request.match_info["path"].split("/", 3)
    data = hub.repos[f"{org}/{name}"].commits[commit][path]
    if path in hub.spoilt:
        data = bytes(reversed(data))
    start, status, headers = 0, 200, {}
    if hub.ranges and (asked := request.http_range.start):
        start, status = asked, 206
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    body = data[start:]
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(body))})
    await response.prepare(request)
    if hub.cut_after:
        await response.write(body[: hub.cut_after.pop(0)])
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write(body)
    await response.write_eof()
    return response


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


# ModelScope


async def _tree(hub: Hub, request: web.Request) -> web.Response:
    repo = hub.repos.get(_id(request))
    commit = repo.find(request.query["Revision"]) if repo is not None else None
    if repo is None or commit is None:
        return web.json_response({"Code": 10010205001, "Message": "not found", "Success": False}, status=404)
    files = [
        {"Path": path, "Name": path.rpartition("/")[2], "Type": "blob", "Size": len(data), "Sha256": _sha256(data)}
        for path, data in sorted(repo.commits[commit].items())
    ]
    page, size = int(request.query["PageNumber"]), int(request.query["PageSize"])
    latest = {"Id": commit if hub.tells_commit else "", "ShortId": commit[:8]}
    data = {"Files": files[(page - 1) * size : page * size], "TotalCount": len(files), "LatestCommitter": latest}
    return web.json_response({"Code": 200, "Success": True, "Data": data})


async def _revisions(hub: Hub, request: web.Request) -> web.Response:
    repo = hub.repos.get(_id(request))
    if repo is None:
        return web.json_response({"Code": 404, "Message": "not found", "Success": False}, status=404)
    branches = [{"Revision": name} for name in repo.branches]
    return web.json_response({"Code": 200, "Data": {"RevisionMap": {"Branches": branches, "Tags": []}}})


async def _scope_file(hub: Hub, request: web.Request) -> web.Response:
    repo = hub.repos[_id(request)]
    commit = repo.find(request.query["Revision"]) or ""
    data = repo.commits.get(commit, {}).get(request.query["FilePath"])
    if data is None:
        return web.json_response({"Code": 404, "Message": "not found"}, status=404)
    if len(data) < LARGE_BYTES:
        return web.Response(body=data)
    where = f"{hub.storage_url}/blobs/{_id(request)}/{commit}/{request.query['FilePath']}"
    return web.Response(status=302, headers={"Location": where})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rows(count: int, first: int = 0) -> bytes:
    """Questions with one right answer, as GSM8K has them."""
    return b"".join(
        json.dumps({"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"}).encode() + b"\n"
        for n in range(first, first + count)
    )
