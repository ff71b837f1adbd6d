"""Exit codes of every command; documented in `evalmesh --help` and docs."""

OK = 0
FAILED = 1
BAD_INPUT = 2
PARTIAL = 3
CANCELLED = 4
UNAVAILABLE = 5
CLIENT_LIMITED = 6
OBJECTIVE_MISSED = 7
GATE_MISSED = 8
GATE_UNDECIDED = 9
INTERRUPTED = 130

HELP = """\
exit codes:
    0  done
    1  the run failed, or evalmesh did
    2  wrong input: a flag, a config key, a file, a name
    3  done, and some samples have no score (--ignore-errors makes it 0)
    4  the run was cancelled
    5  the platform or the model's endpoint is unavailable or refuses the key
  6,7  of `evalmesh perf --strict` alone
    8  a --gate of `evalmesh compare` was missed
    9  none was missed, and one is undecided: too few samples to tell
  130  interrupted; a local run can be taken up again with `evalmesh runs resume`
"""

PERF_HELP = """\
exit codes:
    0  done
    1  the load test failed: no request succeeded, or it could not be conducted; or evalmesh did
    2  wrong input: a flag, a config key, a file, a name
    3  done, and some requests failed (--ignore-errors makes it 0)
    4  the load test was cancelled
    5  the platform or the endpoint is unavailable: no request succeeded, since it cannot be reached or refuses the key
    6  with --strict: the load generator was the bottleneck, or a generator was lost
    7  with --strict and --slo: the objective was not met
  130  interrupted; what was measured is reported
"""
