"""How to reach a bucket: from the URL, then options, then the environment."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from evalmesh.adapters.object_store.keys import check_key
from evalmesh.domain.errors import InvalidInput

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OPTIONS = frozenset(
    {
        "endpoint",
        "region",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "addressing",
        "conditional_put",
        "connect_timeout_s",
        "read_timeout_s",
        "retry_timeout_s",
    }
)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """One bucket and the ways to it. Keys left empty are looked up by the client: AWS_* variables, roles."""

    bucket: str
    connect_timeout_s: float
    read_timeout_s: float
    """Longest wait for the answer to start, and between two reads of it."""
    retry_timeout_s: float
    """No retry starts later than this after the first try."""
    prefix: str = ""
    endpoint: str = ""
    """Empty for AWS itself."""
    region: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    virtual_hosted: bool = False
    conditional_put: bool | None = None
    """None: ask the server."""

    @property
    def label(self) -> str:
        """What messages call this store."""
        path = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{path} at {self.endpoint}" if self.endpoint else path


def s3_settings(url: str, options: Mapping[str, str], environ: Mapping[str, str]) -> S3Settings:
    """Reads `s3://bucket/prefix`; each option `name` may also come as the variable EVALMESH_S3_NAME.

    The endpoint and the region may also come as AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION.
    Raises `InvalidInput`, naming the option; values of keys are never repeated.
    """
    bucket, prefix = _split_bucket(url)
    if unknown := sorted(set(options) - _OPTIONS):
        raise InvalidInput(f"Object store option {unknown[0]!r} is unknown. Known are: {', '.join(sorted(_OPTIONS))}.")

    def value(name: str, *variables: str) -> str:
        if name in options:
            return options[name]
        names = (f"EVALMESH_S3_{name.upper()}", *variables)
        return next((environ[variable] for variable in names if environ.get(variable)), "")

    endpoint = _endpoint(value("endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    addressing = _choice("addressing", value("addressing") or ("path" if endpoint else "virtual"), ("path", "virtual"))
    conditional = _choice("conditional_put", value("conditional_put") or "probe", ("probe", "yes", "no"))
    access_key_id, secret_access_key = value("access_key_id"), value("secret_access_key")
    if bool(access_key_id) != bool(secret_access_key):
        raise InvalidInput("Object store options access_key_id and secret_access_key go together: set both or neither.")
    return S3Settings(
        bucket=bucket,
        prefix=prefix,
        endpoint=endpoint,
        region=value("region", "AWS_REGION", "AWS_DEFAULT_REGION"),
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=value("session_token"),
        virtual_hosted=addressing == "virtual",
        conditional_put={"probe": None, "yes": True, "no": False}[conditional],
        connect_timeout_s=_seconds("connect_timeout_s", value("connect_timeout_s"), 3.0),
        read_timeout_s=_seconds("read_timeout_s", value("read_timeout_s"), 10.0),
        retry_timeout_s=_seconds("retry_timeout_s", value("retry_timeout_s"), 10.0),
    )


def split_url(url: str) -> SplitResult:
    """The parts of a store's URL, without user, query or fragment; raises `InvalidInput`."""
    try:
        parts = urlsplit(url)
        has_user = parts.username is not None or parts.password is not None
    except ValueError:
        raise InvalidInput(f"Object store URL {url!r} cannot be read.", {"field": "url"}) from None
    if has_user:
        raise InvalidInput(
            "An object store URL must not hold a user or key. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
            {"field": "url"},
        )
    if parts.query or parts.fragment:
        raise InvalidInput(f"Object store URL {url!r} must not have a '?' or '#' part.", {"field": "url"})
    return parts


def _split_bucket(url: str) -> tuple[str, str]:
    parts = split_url(url)
    prefix = unquote(parts.path).strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidInput(
            f"Object store URL {url!r} names no valid bucket. Write s3://bucket or s3://bucket/prefix.",
            {"field": "url"},
        )
    return parts.netloc, check_key(prefix) if prefix else ""


def _endpoint(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise InvalidInput(
            "The S3 endpoint must look like https://host:port, without user or key.", {"field": "endpoint"}
        )
    return text.rstrip("/")


def _choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise InvalidInput(f"Object store option {name} is {text!r}; it must be one of {', '.join(allowed)}.")
    return text


def _seconds(name: str, text: str, default: float) -> float:
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise InvalidInput(f"Object store option {name} is {text!r}; it must be a number of seconds from 0 to 3600.")
    return seconds
