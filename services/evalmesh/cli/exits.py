"""Exit codes of every command; documented in `evalmesh --help` and docs."""

OK = 0
FAILED = 1
BAD_INPUT = 2
PARTIAL = 3
CANCELLED = 4
UNAVAILABLE = 5
CLIENT_LIMITED = 6
OBJECTIVE_MISSED = 7
OBJECTIVE_UNDECIDED = 8
INTERRUPTED = 130

HELP = """\
exit codes:
    0  done
    1  the run failed, or evalmesh did
    2  wrong input: a flag, a config key, a file, a name
    3  done, and some samples have no score (--ignore-errors makes it 0)
    4  the run was cancelled
    5  the platform or the model's endpoint is unavailable or refuses the key
    6  of `evalmesh perf --strict`: the figures cannot be trusted
    7  what was asked for was missed: an objective of `evalmesh perf`, a --gate of `evalmesh compare`
    8  nothing was missed, and something is undecided: too few requests or samples to tell
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
    7  with --strict and --slo: the objective was missed; compare --fail-on: B is worse
    8  with --strict and --slo: the objective is undecided, there were too few requests; compare --fail-on: likewise
  130  interrupted; what was measured is reported
"""
