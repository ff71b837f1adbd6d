"""Hubs where data sets and models are published, and what is known of a repository there at one commit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from evalmesh.domain.errors import InvalidInput

HubName = Literal["huggingface", "modelscope"]
HubChoice = Literal["local", "huggingface", "modelscope"]
"""`local`: no hub is asked."""
RepoKind = Literal["dataset", "model"]
TITLES: Mapping[HubName, str] = {"huggingface": "Hugging Face", "modelscope": "ModelScope"}
BRANCHES: Mapping[HubName, str] = {"huggingface": "main", "modelscope": "master"}
"""What is taken where nobody names a revision."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]{0,254}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub(name: str) -> bool:
    """Whether it is one of the hubs."""
    return name in get_args(HubName)


def is_commit(revision: str) -> bool:
    """Whether the revision can never mean anything else."""
    return _COMMIT.fullmatch(revision) is not None


@dataclass(frozen=True, slots=True)
class Repo:
    """Where something is published."""

    hub: HubName
    id: str
    """`organisation/name`; on Hugging Face a few old ones have no organisation."""
    kind: RepoKind = "dataset"

    def __str__(self) -> str:
        return f"{self.id} on {TITLES[self.hub]}"

    @property
    def folder(self) -> str:
        """Its name as one path segment: that of the Hugging Face cache, and for ModelScope one of the same kind."""
        mark = "" if self.hub == "huggingface" else f"{self.hub}--"
        return f"{mark}{self.kind}s--{self.id.replace('/', '--')}"

    def check(self, field: str, revision: str) -> None:
        """Raises `InvalidInput` for an id or a revision that no hub has: neither may lead anywhere else."""
        if _ID.fullmatch(self.id) is None or ".." in self.id:
            raise InvalidInput(
                f"{field}: {self.id[:200]!r} is no hub id (organisation/name); a file or folder belongs into "
                "local_path.",
                {"field": field, "value": self.id},
            )
        if revision and (_REVISION.fullmatch(revision) is None or ".." in revision):
            raise InvalidInput(
                f"revision: {revision[:200]!r} is no revision; give a branch, a tag or a commit.",
                {"field": "revision", "value": revision},
            )


def repo_of(hub: str, id_: str, kind: RepoKind = "dataset") -> Repo:
    """Of a hub that `is_hub` has let pass."""
    return Repo(cast("HubName", hub), id_, kind)


@dataclass(frozen=True, slots=True)
class RepoFile:
    """One file of a repository, as its hub announces it."""

    path: str
    """Relative, `/`-separated."""
    size_bytes: int
    sha256: str = ""
    """Empty for small files of Git itself, which have `git_oid` instead."""
    git_oid: str = ""
    """SHA-1 over `blob {size}\\0` and the bytes."""

    @property
    def blob(self) -> str:
        """A name of the bytes, whatever the repository."""
        return self.sha256 or self.git_oid

    @property
    def is_safe(self) -> bool:
        """Whether the path stays in the folder that it is put into."""
        parts = self.path.split("/")
        return not any(part in {"", ".", ".."} or "\\" in part or "\0" in part or ":" in part for part in parts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one commit."""

    repo: Repo
    revision: str
    """As it was asked for: a branch, a tag or a commit."""
    commit: str
    """What that was. ModelScope does not always tell one: then `files-` and a digest of the files' names and sums."""
    files: tuple[RepoFile, ...]

    def file(self, path: str) -> RepoFile:
        """Raises `KeyError`."""
        for one in self.files:
            if one.path == path:
                return one
        raise KeyError(path)


@dataclass(frozen=True, slots=True)
class DatasetOrigin:
    """Where the rows of a benchmark were taken from."""

    hub: str
    id: str
    revision: str
    """As it was asked for."""
    commit: str
    """What that was."""
