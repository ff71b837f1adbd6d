"""Which certificates of model servers are trusted: one rule for evaluations and load tests."""

import os
import ssl
from pathlib import Path

from evalmesh.domain.errors import InvalidInput

TRUST = "ca_file (--ca-file) names an authority to trust, insecure (--insecure) accepts any certificate"
"""The way out, for messages."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that other clients obey; OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR."""


def tls_context(ca_file: str, *, verify: bool, field: str) -> ssl.SSLContext:
    """Trusts the file, else the environment's bundle, else the system's authorities.

    Raises `InvalidInput` when the file with the authorities cannot be read.
    """
    named = next(((name, os.environ[name]) for name in _BUNDLES if os.environ.get(name)), ("", ""))
    source, place = (field, ca_file) if ca_file else named
    if not verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    folder = bool(place) and Path(place).is_dir()
    try:
        return ssl.create_default_context(
            cafile=place if place and not folder else None, capath=place if folder else None
        )
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"{source}: {place!r} cannot be used: {error}. Give a PEM file with certificates.", {"field": source}
        ) from None
