"""Prepares a bucket, at install time and by `evalmesh store init`: what reading and writing objects never does."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from evalmesh.adapters.object_store.keys import RESERVED_PREFIX
from evalmesh.adapters.object_store.settings import S3Settings, s3_settings
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, InvalidInput, PermissionDenied, Unavailable

_RULE_PREFIX = "evalmesh-"
"""Marks the rules that are ours."""
_MISTAKEN_CODES = frozenset({"BucketAlreadyExists", "BucketAlreadyOwnedByYou"})
"""What a server answers that overlooks `?lifecycle` and takes the request for the making of a bucket."""
_UNSUPPORTED_CODES = frozenset(
    {"NotImplemented", "MethodNotAllowed", "XNotImplemented", "UnsupportedOperation", *_MISTAKEN_CODES}
)
_DENIED_CODES = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_RESPONSE_STATUS = re.compile(r"Response code: (\d{3})")
_RESPONSE_CODE = re.compile(r"<Code>(\w{1,80})</Code>")
_NOT_KEPT = "the server took it without an error and did not keep it"
_OWNED_CODES = frozenset({"BucketAlreadyOwnedByYou"})


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """How the bucket should be."""

    versioning: bool | None = None
    """None leaves it as it is."""
    abort_uploads_after_days: int = 2
    """Parts of uploads whose writer was killed are invisible but cost money."""
    expire_runs_after_days: int | None = None
    """None keeps runs for ever."""


@dataclass(frozen=True, slots=True)
class BucketReport:
    """What was done; the same call again reports only what was found."""

    bucket: str
    created: bool
    changed: tuple[str, ...]
    """Any of `versioning`, `lifecycle`."""
    skipped: Mapping[str, str]
    """The same names, each with the reason why it was left alone; objects work all the same."""


def init_bucket(url: str, options: Mapping[str, str] | None = None, plan: BucketPlan | None = None) -> BucketReport:
    """Creates the bucket of `s3://bucket/prefix` if absent and brings it to the plan; blocks.

    Needs the extra `s3` (`FailedPrecondition` without). Options and variables are those of `open_object_store`.
    Raises `PermissionDenied`, `Unavailable`, and `InvalidInput` for a plan that makes no sense.
    """
    settings, plan = s3_settings(url, options or {}, os.environ), plan or BucketPlan()
    _check(plan)
    client = _client(settings)
    created = _Translator(settings.label, is_optional=False)(lambda: _create(client, settings))
    try_out = _Translator(settings.label, is_optional=True)
    changed: list[str] = []
    skipped: dict[str, str] = {}
    wishes: list[tuple[str, Callable[[], bool]]] = [("lifecycle", lambda: _set_lifecycle(client, settings, plan))]
    if plan.versioning is not None:
        wishes.insert(0, ("versioning", lambda: _set_versioning(client, settings.bucket, wanted=bool(plan.versioning))))
    for name, wish in wishes:
        try:
            if try_out(wish):
                changed.append(name)
        except _SkippedError as reason:
            skipped[name] = str(reason)
    return BucketReport(settings.bucket, created, tuple(changed), skipped)


class _SkippedError(Exception):
    """Why a wish was left alone."""


class _Translator:
    """Calls, and turns exceptions of minio into the domain's."""

    def __init__(self, store: str, *, is_optional: bool) -> None:
        self._store = store
        self._is_optional = is_optional

    def __call__(self, call: Callable[[], bool]) -> bool:
        from minio.error import (  # noqa: PLC0415 - the extra is optional
            InvalidResponseError,
            MinioException,
            S3Error,
        )
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with the extra

        try:
            return call()
        except S3Error as error:
            raise self._meaning(error.code or "", error.response.status) from error
        except InvalidResponseError as error:
            # An S3 error with a content type the client does not take for XML.
            status, code = _RESPONSE_STATUS.search(str(error)), _RESPONSE_CODE.search(str(error))
            raise self._meaning(code[1] if code else "", int(status[1]) if status else 500) from error
        except ValueError as error:
            raise FailedPrecondition(f"The object store {self._store} could not be prepared: {error}.") from error
        except (MinioException, HTTPError, OSError) as error:
            raise Unavailable(
                f"The object store {self._store} could not be prepared: {type(error).__name__}. "
                "Check that the server runs and can be reached."
            ) from error

    def _meaning(self, code: str, status: int) -> Exception:
        if self._is_optional and (code in _UNSUPPORTED_CODES or status in {405, 501}):
            return _SkippedError(f"the server does not support it ({status} {code})")
        what = f"The object store {self._store} could not be prepared: the server answered {status} {code}."
        failure: EvalmeshError = FailedPrecondition(f"{what} Check the endpoint, the region and the bucket's name.")
        if code in _DENIED_CODES or status in {401, 403}:
            failure = PermissionDenied(f"{what} Check the keys and that they may administer the bucket.")
        elif status >= 500 or status == 429:
            failure = Unavailable(f"{what} Try again later.")
        return failure


def _check(plan: BucketPlan) -> None:
    for name in ("abort_uploads_after_days", "expire_runs_after_days"):
        days = getattr(plan, name)
        if days is not None and not 1 <= days <= 36_500:
            raise InvalidInput(f"Bucket plan {name} is {days}; it must be from 1 to 36500 days.", {"field": name})


def _client(settings: S3Settings) -> Any:
    try:
        import urllib3  # noqa: PLC0415 - comes with the extra
        from minio import Minio  # noqa: PLC0415 - the extra is optional
        from minio.credentials import providers  # noqa: PLC0415 - the extra is optional
    except ImportError:
        raise FailedPrecondition(
            "Preparing a bucket needs the minio client. Install it with: pip install 'evalmesh[s3]'."
        ) from None
    endpoint = urlsplit(settings.endpoint or "https://s3.amazonaws.com")
    if endpoint.path:
        raise InvalidInput("The S3 endpoint must not have a path: write https://host:port.", {"field": "endpoint"})
    keys: Any
    if settings.access_key_id:
        keys = providers.StaticProvider(
            settings.access_key_id, settings.secret_access_key, settings.session_token or None
        )
    else:
        keys = providers.ChainedProvider(
            [providers.EnvAWSProvider(), providers.AWSConfigProvider(), providers.IamAwsProvider()]
        )
    # A total of 2 retries: somebody waits in front of a terminal.
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s),
        retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    return Minio(
        endpoint.netloc,
        credentials=keys,
        secure=endpoint.scheme == "https",
        region=settings.region or ("us-east-1" if settings.endpoint else None),
        http_client=pool,
    )


def _create(client: Any, settings: S3Settings) -> bool:
    from minio.error import S3Error  # noqa: PLC0415 - the extra is optional

    if client.bucket_exists(settings.bucket):
        return False
    try:
        client.make_bucket(settings.bucket)
    except S3Error as error:
        if error.code in _OWNED_CODES:
            return False
        raise
    return True


def _set_versioning(client: Any, bucket: str, *, wanted: bool) -> bool:
    from minio.commonconfig import ENABLED  # noqa: PLC0415 - the extra is optional
    from minio.versioningconfig import SUSPENDED, VersioningConfig  # noqa: PLC0415 - the extra is optional

    def is_as_wanted() -> bool:
        return bool(client.get_bucket_versioning(bucket).status == ENABLED) is wanted

    if is_as_wanted():
        return False
    client.set_bucket_versioning(bucket, VersioningConfig(ENABLED if wanted else SUSPENDED))
    if not is_as_wanted():
        raise _SkippedError(_NOT_KEPT)
    return True


def _set_lifecycle(client: Any, settings: S3Settings, plan: BucketPlan) -> bool:
    """Replaces this store's rules and keeps those of other stores in the bucket."""
    from minio.lifecycleconfig import LifecycleConfig  # noqa: PLC0415 - the extra is optional

    rules = _current_rules(client, settings.bucket)
    if any(not (rule.rule_id or "").startswith(_RULE_PREFIX) for rule in rules):
        # Rules are written all at once, and the client drops what it does not know, such as filters by size: writing
        # somebody else's rule back could make it delete more than it was meant to.
        raise _SkippedError("the bucket has life-cycle rules of its own; add the rules for evalmesh to those by hand")
    others = [rule for rule in rules if not rule.rule_id.startswith(_rule_id(settings, ""))]
    wanted = [*others, *_rules(settings, plan)]
    if _summaries(rules) == _summaries(wanted):
        return False
    client.set_bucket_lifecycle(settings.bucket, LifecycleConfig(wanted))
    if _summaries(_current_rules(client, settings.bucket)) != _summaries(wanted):
        raise _SkippedError(_NOT_KEPT)
    return True


def _current_rules(client: Any, bucket: str) -> list[Any]:
    current = client.get_bucket_lifecycle(bucket)
    return list(current.rules) if current else []


def _summaries(rules: list[Any]) -> list[tuple[str, str, str, int, int]]:
    return sorted(map(_summary, rules))


def _rules(settings: S3Settings, plan: BucketPlan) -> list[Any]:
    from minio.commonconfig import ENABLED, Filter  # noqa: PLC0415 - the extra is optional
    from minio.lifecycleconfig import (  # noqa: PLC0415 - the extra is optional
        AbortIncompleteMultipartUpload,
        Expiration,
        Rule,
    )

    base = f"{settings.prefix}/" if settings.prefix else ""
    uploads = AbortIncompleteMultipartUpload(days_after_initiation=plan.abort_uploads_after_days)
    rules = [
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=base),
            rule_id=_rule_id(settings, "uploads"),
            abort_incomplete_multipart_upload=uploads,
        ),
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=base + RESERVED_PREFIX),
            rule_id=_rule_id(settings, "probes"),
            expiration=Expiration(days=1),
        ),
    ]
    if plan.expire_runs_after_days is not None:
        rules.append(
            Rule(
                ENABLED,
                rule_filter=Filter(prefix=f"{base}runs/"),
                rule_id=_rule_id(settings, "runs"),
                expiration=Expiration(days=plan.expire_runs_after_days),
            )
        )
    return rules


def _rule_id(settings: S3Settings, name: str) -> str:
    """Names the store too, as two under two prefixes of one bucket must not replace each other's rules."""
    return f"{_RULE_PREFIX}{hashlib.sha256(settings.prefix.encode()).hexdigest()[:12]}-{name}"


def _summary(rule: Any) -> tuple[str, str, str, int, int]:
    """What of a rule is ours to set."""
    uploads, expiration = rule.abort_incomplete_multipart_upload, rule.expiration
    return (
        rule.rule_id or "",
        rule.status,
        (rule.rule_filter.prefix or "") if rule.rule_filter else "",
        (uploads.days_after_initiation or 0) if uploads else 0,
        (expiration.days or 0) if expiration else 0,
    )
