"""Ids of runs and load tests."""

import secrets

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(now: float) -> str:
    """Nine digits of time (milliseconds) and five of chance, in Crockford's base 32: sorts by time, safe everywhere."""
    number = int(now * 1000) << 25 | secrets.randbits(25)
    return "".join(_BASE32[number >> shift & 31] for shift in range(65, -5, -5))
