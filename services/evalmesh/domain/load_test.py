"""One submitted performance run of an endpoint: its immutable wish, and how far it has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from evalmesh.domain.state import Submission

Arrival = Literal["closed", "constant", "poisson", "gamma", "trace"]
Transport = Literal["auto", "fast", "compatible"]
ImageMode = Literal["RGB", "L"]
LengthKind = Literal["fixed", "uniform", "normal", "lognormal", "trace"]
SearchVariable = Literal["rate", "parallel"]
LevelState = Literal["pending", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """The endpoint under load and how it is reached. Holds references to keys, never keys."""

    url: str
    """The full address that is asked: `http://host:8000/v1/chat/completions`."""
    model: str
    api: str = "chat"
    """`chat`, `completions`, `responses`, `embeddings`, `rerank`, or the name of a plug-in (`evalmesh.load_apis`)."""
    key_ref: str = ""
    """`env:NAME` or `secret:name/key`; empty for an endpoint without a key."""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = True
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    """Longest silence: from send to first byte, and between bytes."""
    total_timeout_s: float = 21600.0
    """From send to last byte."""
    transport: Transport = "auto"
    """`fast`: our own HTTP/1.1 client; `compatible`: aiohttp, for proxies and unusual TLS. `auto`: fast unless a
    proxy is set for the address."""
    verify_tls: bool = True
    ca_file: str = ""
    """PEM file with the authorities to trust, on the generator's machine; empty: the system's."""
    connection: str = ""
    """A connection that the generators' operator declared: its key and headers are sent."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of token counts; draws are rounded and kept within `low` and `high`."""

    kind: LengthKind = "fixed"
    low: int = 1
    high: int = 1
    """`fixed`: both the same. `uniform`: bounds included. `trace`: each row of the data set brings its own."""
    mean: float = 0.0
    """`normal`: mean; `lognormal`: median. In tokens."""
    spread: float = 0.0
    """`normal`: standard deviation in tokens; `lognormal`: sigma of the logarithm."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Random images sent with each prompt to a vision model."""

    count: int = 1
    width: int = 224
    height: int = 224
    mode: ImageMode = "RGB"


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """Conversations: each turn's request carries all turns before it, answers included."""

    low: int = 1
    high: int = 1
    """Turns of a conversation; drawn uniformly where the data set does not fix them."""
    think_mean_s: float = 0.0
    """Mean pause between an answer and the next turn; exponentially distributed."""


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What is asked: where prompts come from, how long they are, what each body carries beside them."""

    dataset: str = "random"
    """`random`, `random_vl`, `random_multi_turn`, `openqa`, `longalpaca`, `sharegpt`, `line_by_line`, `custom`,
    `custom_multi_turn`, `trace`, `embedding`, `rerank`, `speed_benchmark`, ... (`evalmesh.load_datasets` adds more)."""
    file_digest: str = ""
    """sha256 of the uploaded data set file; empty for data sets that need none."""
    file_name: str = ""
    """What it was called: its suffix tells the format."""
    tokenizer_digest: str = ""
    """sha256 of the uploaded tokenizer (a JSON mapping of file names to texts); empty: counted by the server."""
    prompt: str = ""
    """One fixed prompt for every request."""
    template: str = ""
    """A JSON body with `{prompt}` and `{model}` in it, used instead of the API's own."""
    input_tokens: Lengths | None = None
    """Length of prompts, the chat template included; `None`: as the data set has them."""
    output_tokens: Lengths | None = None
    """`max_tokens` of each request; `None`: the server's default, or what the trace says."""
    min_tokens: int | None = None
    prefix_tokens: int = 0
    """Tokens at the start of each prompt that all requests of one prefix share; part of `input_tokens`."""
    prefix_count: int = 1
    """Different shared prefixes."""
    apply_chat_template: bool = True
    """For data sets of plain text under a chat API: send messages. For `completions`: render the template here."""
    tokenize: bool = False
    """Send token ids instead of text (`completions`)."""
    offset: int = 0
    """Rows of the data set to skip."""
    documents: int = 0
    """Documents per `rerank` request; texts per `embeddings` request. 0: the data set's own, or 1."""
    images: ImageSpec | None = None
    turns: TurnSpec | None = None
    body: Mapping[str, object] = field(default_factory=dict)
    """Merged into every body: temperature, top_p, stop, n, seed, extra arguments. `None` removes a key."""
    args: Mapping[str, object] = field(default_factory=dict)
    """Options of the data set or plug-in alone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a level in which the load goes linearly from `start` to `end`; equal ones make a step."""

    duration_s: float
    start: float
    end: float
    """Requests per second in open loop, requests in flight in closed loop."""


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One level of load. `rate` makes it an arrival process, without it `parallel` requests are kept in flight."""

    parallel: int = 0
    """Most requests in flight over all generators; 0: no cap (open loop)."""
    rate: float = 0.0
    """Mean arrivals per second over all generators; 0: as fast as `parallel` allows."""
    number: int = 0
    """Requests (conversations, where there are turns); 0: as many as `duration_s` allows."""
    duration_s: float = 0.0
    """Nothing is sent after this; 0: until `number` is reached."""
    stages: tuple[Stage, ...] = ()
    """A load that changes within the level; its durations then bound the level."""


@dataclass(frozen=True, slots=True)
class ArrivalSpec:
    """When requests are due."""

    kind: Arrival = "closed"
    burstiness: float = 1.0
    """`gamma`: its shape. 1 is Poisson, below 1 burstier, above 1 more even; the CV of gaps is shape ** -0.5."""
    speed: float = 1.0
    """`trace`: 2 replays twice as fast."""


@dataclass(frozen=True, slots=True)
class SloTerm:
    """One bound of a service level objective: `ttft:p99:500ms`."""

    metric: str
    """`ttft`, `itl`, `tpot`, `e2e` (ms), `error_rate` (0 to 1), `request_rate`, `output_token_rate` (per second)."""
    statistic: str
    """`mean`, or a percentile `p50` to `p99.9`; empty for rates."""
    limit: float
    """In the metric's own unit; an upper bound, for rates a lower one."""


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """Find the highest load that meets the objective."""

    variable: SearchVariable
    low: float = 1.0
    high: float = 0.0
    """Upper bound; 0: none but the client's own capacity."""
    resolution: float = 0.05
    """Stop when the bracket is this narrow, relative to its lower end (`parallel`: and at most one apart)."""
    level_s: float = 4.0
    """Seconds of load per probe: half of it while bracketing, up to thrice for the answer while its interval decides
    nothing, and more where answers take long."""
    repeats: int = 1
    """Probes per level; their records are pooled."""
    max_s: float = 600.0


@dataclass(frozen=True, slots=True)
class LoadTestSpec:
    """What was asked for; never changes once submitted."""

    target: LoadTarget
    prompts: PromptSpec = field(default_factory=PromptSpec)
    arrival: ArrivalSpec = field(default_factory=ArrivalSpec)
    levels: tuple[LoadLevel, ...] = (LoadLevel(parallel=1, number=1000),)
    """In this order. With `search` its first level is the template of a probe (`number`, `duration_s`, cap)."""
    repeats: int = 1
    """Times each level is run; figures then come with intervals over repeats."""
    pause_s: float = 0.0
    """Between levels."""
    warmup: float = 0.0
    """Requests before each level that no figure includes: a count, or below 1 a share of the level's number."""
    slo: tuple[SloTerm, ...] = ()
    search: SearchSpec | None = None
    generators: int = 1
    """Processes the load is spread over."""
    seed: int = 42
    server_metrics: tuple[str, ...] = ("auto",)
    """Prometheus addresses to scrape; `auto`: `/metrics` beside the endpoint if it is there; empty: none."""
    check_endpoint: bool = True
    """Send one request before anything else and refuse the load test when it fails."""
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    client_config: str = ""
    """JSON object with the keys of `evalmesh perf -c`: the client's own words, for people to ask for the same again."""


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """How one level of a load test stands; its whole document is an object (`layout.level_key`)."""

    index: int
    """Position in the order of execution; with repeats and searches there are more of these than asked levels."""
    level: LoadLevel
    repeat: int = 0
    state: LevelState = "pending"
    planned: int = 0
    """Requests planned; 0 where only a duration is given."""
    sent: int = 0
    ok: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    """By class."""
    request_rate: float | None = None
    output_token_rate: float | None = None
    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    itl_p50_ms: float | None = None
    e2e_p99_ms: float | None = None
    goodput_rate: float | None = None
    meets_slo: bool | None = None
    """`None`: undecided, or there is no objective."""
    client_limited: bool = False
    """The load generator was the bottleneck: not to be used."""
    start_time: float | None = None
    """Unix seconds."""
    end_time: float | None = None
    note: str = ""
    """What a reader must know about it: a lost generator, why it was probed."""


@dataclass(frozen=True, slots=True)
class LoadTest(Submission[LoadTestSpec]):
    """A submitted load test."""

    COLLECTION: ClassVar[str] = "loadTests"
    NOUN: ClassVar[str] = "load test"

    levels: tuple[LevelStatus, ...] = ()
    notes: tuple[str, ...] = ()
    """What was noticed before it was accepted."""


@dataclass(frozen=True, slots=True)
class LatencyQuantiles:
    """Percentiles of one metric, within the relative error of `load.measure.histogram`."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """The last seconds of a level, over all generators: what a live view shows."""

    level_index: int
    elapsed_s: float
    """Since the level's start."""
    window_s: float
    """Seconds that rates and percentiles cover."""
    offered_rate: float = 0.0
    """Requests due per second; 0 in closed loop."""
    sent_rate: float = 0.0
    ok_rate: float = 0.0
    output_token_rate: float = 0.0
    in_flight: int = 0
    queued: int = 0
    """Due, and held back by the cap."""
    sent: int = 0
    """Since the level's start; likewise the next two."""
    ok: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    """By class."""
    latencies: Mapping[str, LatencyQuantiles] = field(default_factory=dict)
    """By metric: `ttft`, `ttft_due`, `itl`, `e2e`, `e2e_due`, `send_lag`; what was not measured is left out."""
    client_cpu: float = 0.0
    """Share of one core that the busiest generator used."""
    client_lag_ms: float = 0.0
    """Longest time that the event loop of a generator was late."""
    generators: int = 0
    """Heard in the window."""
    good_share: float | None = None
    """Share of successes within the objective; `None` without an objective on single requests."""
