"""Help for mistyped names."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or the first known ones when none is near."""
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{folded[near[0]]}'?"
    more = ", ..." if len(known) > 10 else ""
    return f"Known are: {', '.join(known[:10])}{more}." if known else "None are known."
