"""How hubs are reached, from the variables that their own clients obey."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.domain.connection import origin_of
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.hub import HubName

_FOR_HUBS: Mapping[HubName, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    # addresses by environment, the usual address, tokens by environment
    "huggingface": (("HF_ENDPOINT",), "https://huggingface.co", ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
    "modelscope": (("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"), "https://modelscope.cn", ("MODELSCOPE_API_TOKEN",)),
}
OFFLINE = ("EVALMESH_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True, slots=True)
class HubAccess:
    """One hub, and what it is shown."""

    hub: HubName
    endpoint: str
    """`https://host`, without a slash at its end."""
    token: str = field(default="", repr=False)
    token_from: str = ""
    """What named the token, for messages."""
    token_names: tuple[str, ...] = ()
    """Variables that a token may be given in."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """For one process."""

    hubs: Mapping[HubName, HubAccess]
    cache_dir: Path
    """What was downloaded, in the layout of the Hugging Face cache."""
    other_caches: tuple[Path, ...] = ()
    """Caches of other clients, which are read and never written."""
    offline: str = ""
    """The variable that forbids to ask any hub; empty: hubs may be asked."""


def hub_settings(environ: Mapping[str, str] | None = None) -> HubSettings:
    """Raises `InvalidInput` for an address that is none, naming the variable."""
    env = os.environ if environ is None else environ
    hf_home = _path(env.get("HF_HOME") or _path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    hf_cache = _path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or hf_home / "hub")
    own = env.get("EVALMESH_HUB_CACHE") or _path(env.get("XDG_CACHE_HOME") or "~/.cache") / "evalmesh" / "hub"
    return HubSettings(
        hubs={hub: _access(hub, env, hf_home) for hub in _FOR_HUBS},
        cache_dir=_path(own),
        other_caches=(hf_cache,),
        offline=next((name for name in OFFLINE if _is_true(env.get(name))), ""),
    )


def _access(hub: HubName, env: Mapping[str, str], hf_home: Path) -> HubAccess:
    addresses, usual, tokens = _FOR_HUBS[hub]
    named = next((name for name in addresses if env.get(name, "").strip()), "")
    endpoint = _endpoint(named, env[named]) if named else usual
    for name in tokens:
        if token := env.get(name, "").strip():
            if not token.isascii() or not token.isprintable():
                raise InvalidInput(f"{name}: the token holds a line break or another character that none has.")
            return HubAccess(hub, endpoint, token, name, tokens)
    # What `hf auth login` has left is the hub's own: no mirror is shown it.
    if hub == "huggingface" and endpoint == usual and not _is_true(env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        file = _path(env.get("HF_TOKEN_PATH") or hf_home / "token")
        if token := _text_of(file):
            return HubAccess(hub, endpoint, token, str(file), tokens)
    return HubAccess(hub, endpoint, token_names=tokens)


def _endpoint(name: str, value: str) -> str:
    address = value.strip().rstrip("/")
    address = address if "://" in address else f"https://{address}"
    try:
        origin_of(address)
    except ValueError:
        raise InvalidInput(
            f"{name}: this is no plain http(s) address; give one like https://hub.example.com.", {"field": name}
        ) from None
    return address


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _path(text: str | Path) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(text)))  # noqa: PTH111  (pathlib's own raises without a home)


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE
