"""Connections take descriptors: as many as the machine allows are to be had."""

import subprocess
import sys

_PROGRAM = """
import resource
from evalmesh.runtime.descriptors import allow_all_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 777))
allow_all_descriptors()
allow_all_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_is_raised_to_what_is_allowed():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(777, 777)"
