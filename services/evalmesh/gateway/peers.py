"""The services behind the gateway: where they are, and what they say about a spec."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import grpc
import grpc.aio

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.domain.needs import Capabilities, Needs
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import OWN_ENGINES, ModelSpec, RunSpec
from evalmesh.gateway.forward import bearer, raise_if_away
from evalmesh.gateway.settings import GatewaySettings
from evalmesh.runtime.entrance import peer_credentials, read_tokens
from evalmesh.runtime.telemetry import current_trace
from evalmesh.v1 import (
    benchmarks_pb2,
    benchmarks_pb2_grpc,
    load_generators_pb2,
    load_generators_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    reports_pb2,  # noqa: F401  (telemetry names what is passed on; likewise the next)
    scoring_pb2,  # noqa: F401
)
from evalmesh.wire.errors import from_rpc_error
from evalmesh.wire.load_tests.specs import load_spec_to_proto
from evalmesh.wire.runs.models import generation_to_proto, model_to_proto
from evalmesh.wire.runs.needs import capabilities_from_proto, check_needs, needs_from_proto
from evalmesh.wire.runs.specs import spec_to_proto

OpenChannel = Callable[[], grpc.aio.Channel]

BENCHMARKS = "evalmesh.v1.BenchmarkService"
MODELS = "evalmesh.v1.ModelService"
SCORING = "evalmesh.v1.ScoringService"
REPORTS = "evalmesh.v1.ReportService"
LOAD = "evalmesh.v1.LoadService"

_OPTIONS = [
    # What a client may receive from the gateway, the gateway may receive from its peers.
    ("grpc.max_receive_message_length", 64 << 20),
    # A peer that was away for long is found again within two seconds of its return.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A proxy for the world outside does not know the peers.
    ("grpc.enable_http_proxy", 0),
]


def lazy_channel(address: Callable[[], str], tls: grpc.ChannelCredentials | None = None) -> OpenChannel:
    """One channel, opened when first used: an address may become known later than the gateway is built."""
    if tls is None:
        return cache(lambda: grpc.aio.insecure_channel(address(), options=_OPTIONS))
    return cache(lambda: grpc.aio.secure_channel(address(), tls, options=_OPTIONS))


def routes_to(settings: GatewaySettings) -> dict[str, OpenChannel]:
    """Which service answers for which API. Raises `InvalidInput`."""
    tls = peer_credentials(settings)
    return {
        BENCHMARKS: lazy_channel(lambda: settings.dataset_loader_address, tls),
        MODELS: lazy_channel(lambda: settings.model_runner_address, tls),
        SCORING: lazy_channel(lambda: settings.scorer_address, tls),
        REPORTS: lazy_channel(lambda: settings.report_aggregator_address, tls),
        LOAD: lazy_channel(lambda: settings.load_generator_address, tls),
    }


def peer_token(settings: GatewaySettings) -> str:
    """What the gateway shows the other services. Raises `InvalidInput`."""
    path = settings.peer_token_file or settings.auth_token_file
    return read_tokens(path, "EVALMESH_GATEWAY_PEER_TOKEN_FILE")[0] if path else ""


@dataclass(frozen=True, slots=True)
class Peers:
    """The services that are asked about a spec before it is accepted."""

    loader: OpenChannel
    runner: OpenChannel
    load_generator: OpenChannel
    timeout_s: float = 20.0
    token: str = field(default="", repr=False)
    """What they are shown."""

    async def check_run(self, spec: RunSpec) -> tuple[RunSpec, Sequence[str]]:
        """Asks the data set loader about the data and the model runner about the endpoint, and compares the two.

        Returns the spec with the weights of models that run here, and what to know although it all works.
        """
        loader = benchmarks_pb2_grpc.BenchmarkServiceStub(self.loader())
        wanted = benchmarks_pb2.ValidateBenchmarksRequest(spec=spec_to_proto(spec))
        needed = await self._ask(BENCHMARKS, loader.ValidateBenchmarks, wanted)
        needs = [needs_from_proto(one) for one in needed.needs]
        return await self.check_models(spec, needs)

    async def check_models(self, spec: RunSpec, needs: Sequence[Needs] = ()) -> tuple[RunSpec, Sequence[str]]:
        """The part of `check_run` that is about endpoints: each is asked something small."""
        notes: list[str] = []
        model, roles = spec.model, dict(spec.roles)
        if model.engine != "recorded":
            far = model.engine in OWN_ENGINES and spec.generation.max_tokens is None
            # What one kind of question tells of an endpoint says little of another kind.
            for kind in dict.fromkeys(one.kind for one in needs) or ("",):
                has = await self._describe(model, notes, spec.generation, kind)
                wanted = [one for one in needs if one.kind == kind]
                check_needs(model, _as_far_as_it_goes(wanted, has, notes) if far else wanted, has)
                model = replace(model, weights=has.weights)
        for role, one in roles.items():
            roles[role] = replace(one, weights=(await self._describe(one, notes)).weights)
        return replace(spec, model=model, roles=roles), list(dict.fromkeys(notes))

    async def _describe(
        self, model: ModelSpec, notes: list[str], config: GenerationConfig | None = None, kind: str = ""
    ) -> Capabilities:
        """Adds to the notes. Raises what is wrong with the endpoint."""
        runner = models_pb2_grpc.ModelServiceStub(self.runner())
        wanted = models_pb2.DescribeModelRequest(
            model=model_to_proto(model),
            request_kind=kind,
            config=generation_to_proto(config or GenerationConfig()),
        )
        found = await self._ask(MODELS, runner.DescribeModel, wanted)
        notes += found.notes
        return capabilities_from_proto(found)

    async def check_load_test(self, spec: LoadTestSpec) -> Sequence[str]:
        """Asks the load generator about data set, tokenizer and endpoint; what to know although they work."""
        generator = load_generators_pb2_grpc.LoadServiceStub(self.load_generator())
        wanted = load_generators_pb2.ValidateLoadTestRequest(spec=load_spec_to_proto(spec))
        answer = await self._ask(LOAD, generator.ValidateLoadTest, wanted)
        return tuple(answer.notes)

    async def _ask(self, service: str, method: Callable[..., Awaitable[Any]], request: object) -> Any:
        try:
            metadata = (*current_trace().items(), *bearer(self.token))
            return await method(request, timeout=self.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise_if_away(error, service)
            raised: EvalmeshError = from_rpc_error(error)
            raise raised from error


def _as_far_as_it_goes(needs: Sequence[Needs], has: Capabilities, notes: list[str]) -> Sequence[Needs]:
    """An engine of ours ends an answer where its context does, which is no reason to refuse a benchmark's own bound."""
    most = has.max_context_tokens
    long = [need.benchmark for need in needs if most is not None and (need.context_tokens or 0) >= most]
    if not long:
        return needs
    notes.append(
        f"The model holds {most} tokens in all, prompts included, and {', '.join(long)} would let answers be as long; "
        "those that come so far are cut there. Bound them with --max-tokens."
    )
    return [replace(need, context_tokens=None) for need in needs]
