"""Every metric there is. docs/guides/telemetry.md lists them; a test keeps both alike."""

from evalmesh.runtime.telemetry.instruments import SECONDS, TOKENS, Counter, Gauge, Histogram, Instrument

_CALL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port")
_MODEL = ("gen_ai.request.model", "server.address", "server.port")
_LONG = (*SECONDS, 163.84, 327.68, 655.36, 1310.72, 2621.44)

WORK_ITEMS = Counter(
    "evalmesh.work.items",
    "{item}",
    "Work items settled: done, dropped (of a cancelled run), retried, set_aside or handed_over",
    ("queue", "outcome"),
)
WORK_DURATION = Histogram(
    "evalmesh.work.duration", "s", "From a work item taken to settled", ("queue", "step"), buckets=_LONG
)
QUEUE_WAIT = Histogram("evalmesh.queue.wait", "s", "From a work item queued to taken", ("queue",), buckets=_LONG)
QUEUE_DEPTH = Gauge("evalmesh.queue.depth", "{item}", "Work items that wait or are in hand", ("queue",))
QUEUE_AGE = Gauge("evalmesh.queue.age", "s", "Age of the oldest work item that waits or is in hand", ("queue",))
STEPS = Counter("evalmesh.steps", "{shard}", "Shards that a step was done on", ("step",))
STEP_SAMPLES = Counter("evalmesh.step.samples", "{sample}", "Samples of those shards", ("step",))

CALL_DURATION = Histogram(
    "gen_ai.client.operation.duration",
    "s",
    "Calls of models: send to last byte of the last try",
    (*_CALL, "error.type"),
    buckets=SECONDS,
)
TOKEN_USAGE = Histogram(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens of a call, as the server counts them",
    (*_CALL, "gen_ai.token.type"),
    buckets=TOKENS,
)
FIRST_CHUNK = Histogram(
    "gen_ai.client.operation.time_to_first_chunk", "s", "Send to first token, streamed calls", _CALL, buckets=SECONDS
)
COMPLETIONS = Counter(
    "evalmesh.completions",
    "{completion}",
    "Requests that ended, each turn of a conversation one; errors by class",
    (*_MODEL, "error.type"),
)
TRIES = Counter("evalmesh.requests.retried", "{request}", "Tries of requests after the first", _MODEL)
REUSED = Counter("evalmesh.completions.reused", "{completion}", "Completions copied from earlier runs")
IN_FLIGHT = Gauge("evalmesh.requests.in_flight", "{request}", "Requests that hold a slot of the model's server", _MODEL)
LIMIT = Gauge("evalmesh.requests.limit", "{request}", "Slots that the model's server is given at the moment", _MODEL)

SCORES = Counter("evalmesh.scores", "{score}", "Scores made: scored, unscored or errored", ("state",))
SCORER_CALLS = Counter(
    "evalmesh.scorer.calls",
    "{call}",
    "Calls of scoring processes: returned, raised, late, cancelled or died",
    ("outcome",),
)
SCORER_DURATION = Histogram("evalmesh.scorer.duration", "s", "Calls of scoring processes", buckets=SECONDS)
SCORER_WORKERS = Gauge("evalmesh.scorer.workers", "{process}", "Scoring processes that run")

LOAD_REQUESTS = Counter(
    "evalmesh.load.requests", "{request}", "Requests of levels that have ended, errors by class", ("error.type",)
)
LOAD_LEVELS = Counter("evalmesh.load.levels", "{level}", "Levels of load tests that have ended")

RPC_DURATION = Histogram(
    "rpc.server.call.duration",
    "s",
    "gRPC calls answered",
    ("rpc.system.name", "rpc.method", "rpc.response.status_code"),
    buckets=_LONG,
)

ALL: tuple[Instrument, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Instrument))
GAUGES: tuple[Gauge, ...] = tuple(one for one in ALL if isinstance(one, Gauge))
