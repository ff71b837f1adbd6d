"""The clock and the keys of the machine this process runs on."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from evalmesh.domain.errors import InvalidInput, NotFound

_DEFAULT_SECRETS_DIR = "/var/run/evalmesh/secrets"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""Names of Kubernetes secrets and of the keys in them; no leading dot, so no way up."""
_MAX_SECRET_BYTES = 1 << 20


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> float:
        return time.time()


class EnvSecrets:
    """Keys from environment variables (`env:NAME`) and mounted files (`secret:name/key`).

    The file is `{EVALMESH_SECRETS_DIR}/name/key`, as Kubernetes mounts a secret; a line break at its end is dropped.
    No message ever repeats a value, nor a reference that is not one: it may be a key pasted in the wrong place.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def resolve(self, ref: str) -> str:
        """See the port; raises `InvalidInput` for what is no reference."""
        if not ref:
            return ""
        kind, _, name = ref.partition(":")
        if kind == "env" and _VARIABLE.fullmatch(name):
            return self._variable(name)
        parts = name.split("/")
        if kind == "secret" and len(parts) == 2 and all(_PART.fullmatch(part) for part in parts):
            return self._file(parts[0], parts[1])
        raise InvalidInput(
            "A key must be given by reference: 'env:NAME' or 'secret:name/key'. What was given is neither and is not "
            "shown, as it may be the key itself.",
            {"field": "secret"},
        )

    def _variable(self, name: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            raise NotFound(f"The key env:{name} cannot be resolved: set the environment variable {name}.")
        return value

    def _file(self, name: str, key: str) -> str:
        path = Path(self._environ.get("EVALMESH_SECRETS_DIR") or _DEFAULT_SECRETS_DIR) / name / key
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_SECRET_BYTES)
            value = raw.decode().rstrip("\r\n")
        except OSError as error:
            raise NotFound(
                f"The key secret:{name}/{key} cannot be resolved: {path} cannot be read ({error.strerror}). "
                f"Mount the secret {name!r} there, or set EVALMESH_SECRETS_DIR."
            ) from None
        except UnicodeDecodeError:
            raise NotFound(f"The key secret:{name}/{key} cannot be resolved: {path} holds no UTF-8 text.") from None
        if not value:
            raise NotFound(f"The key secret:{name}/{key} cannot be resolved: {path} is empty.")
        return value
