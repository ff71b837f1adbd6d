"""Exit codes of every command; documented in `evalmesh --help` and docs."""

OK = 0
FAILED = 1
BAD_INPUT = 2
PARTIAL = 3
CANCELLED = 4
UNAVAILABLE = 5
INTERRUPTED = 130

HELP = """\
exit codes:
    0  done
    1  the run failed, or evalmesh did
    2  wrong input: a flag, a config key, a file, a name
    3  done, and some samples have no score (--ignore-errors makes it 0)
    4  the run was cancelled
    5  the platform or the model's endpoint is unavailable or refuses the key
  130  interrupted; a local run can be taken up again with `evalmesh runs resume`
"""
