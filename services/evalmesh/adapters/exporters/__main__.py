"""`python -m evalmesh.adapters.exporters SINK DOCUMENT [OPTION=VALUE ...]`.

For sinks whose packages do not go with ours: an environment with the sink's package and `pip install --no-deps
evalmesh` is enough. Keys are taken from the sink's own variables, never from arguments, which everybody can see.
"""

import json
import sys
from pathlib import Path

from evalmesh.adapters.exporters.exporting import SINKS, check, export
from evalmesh.adapters.exporters.job import is_secret
from evalmesh.domain.errors import EvalmeshError, InvalidInput

_USAGE = f"usage: python -m evalmesh.adapters.exporters {{{','.join(SINKS)}}} DOCUMENT [OPTION=VALUE ...]\n"


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    from_stdin, checks = "--options-stdin" in arguments, "--check" in arguments
    words = [word for word in arguments if word not in {"--options-stdin", "--check"}]
    if checks:
        words.insert(1, "")
    if len(words) < 2:
        sys.stderr.write(_USAGE)
        return 2
    sink, document, *pairs = words
    try:
        options = _options(pairs)
        if from_stdin:
            options |= dict(line.split("=", 1) for line in sys.stdin.read().splitlines() if "=" in line)
        if checks:
            check(sink, options)
            return 0
        found = json.loads(Path(document).read_bytes())
        sys.stdout.write(f"{export(sink, found, Path(document).parent, options)}\n")
    except EvalmeshError as error:
        sys.stderr.write(f"{sink}: {error.message}\n")
        return 2 if isinstance(error, InvalidInput) else 1
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(
            f"{document} is no perf.json or report.json that can be read: {type(error).__name__}: {error}\n"
        )
        return 2
    return 0


def _options(pairs: list[str]) -> dict[str, str]:
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"{pair!r} is no option; write OPTION=VALUE, as in project=serving.")
        if is_secret(key):
            raise InvalidInput(f"{key} is not taken as an argument, which everybody can see; set the sink's variable.")
        options[key] = value
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
