"""The services of a platform on one machine, built from what is open. Each is loaded when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module

from evalmesh.adapters.connections import Connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.settings import LocalSettings
from evalmesh.ports.load_tests.probe import LoadProbe
from evalmesh.ports.model_servers import ModelServers
from evalmesh.runtime.service import Service


@dataclass(frozen=True, slots=True)
class Opened:
    """What the services are handed."""

    connections: Connections
    servers: ModelServers
    probe: LoadProbe
    own_address: Callable[[], str]
    """Where all services of this process are, once it listens."""
    token: str = field(repr=False)
    """What it wants to be shown there."""
    pairs: PairPool
    """Processes that generate load; those that are wanted are starting."""


def build_services(settings: LocalSettings, opened: Opened) -> list[Service]:
    """Those that the settings want to be there; of these, only some may take work."""
    names = [name for name in _ROOMS if settings.hosted is None or name in settings.hosted]
    services = [_ROOMS[name](settings, opened) for name in names]
    if settings.at_work is not None:
        services = [one if one.name in settings.at_work else replace(one, loops=()) for one in services]
    return services


def load(settings: LocalSettings) -> None:
    """Loads the modules of the services that will be there; may be called while something else is waited for."""
    for name in _ROOMS:
        if settings.hosted is None or name in settings.hosted:
            import_module(f"evalmesh.{name}.service")


def _gateway(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.gateway import service as gateway  # noqa: PLC0415  (see above; likewise below)
    from evalmesh.gateway.peers import Peers, lazy_channel  # noqa: PLC0415

    there = opened.connections
    # All services share this process and its one server, so the gateway finds its peers at its own port.
    here = lazy_channel(opened.own_address)
    ports = gateway.GatewayPorts(there.runs, there.load_tests, there.bus, there.objects, SystemClock())
    return gateway.build(ports, Peers(here, here, here, token=opened.token), routes={}, host=settings.host)


def _dataset_loader(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.adapters.datasets import LocalDatasets  # noqa: PLC0415
    from evalmesh.adapters.hubs.opening import open_hubs  # noqa: PLC0415
    from evalmesh.dataset_loader import service as dataset_loader  # noqa: PLC0415
    from evalmesh.dataset_loader.settings import DatasetLoaderSettings  # noqa: PLC0415
    from evalmesh.results.finding import Datasets  # noqa: PLC0415

    there = opened.connections
    hubs = open_hubs(store=there.objects, take_lease=there.runs.take_lease, key_of=opened.servers.key_for)
    return dataset_loader.build(
        settings=DatasetLoaderSettings(drain_s=settings.drain_s, ack_wait_s=settings.ack_wait_s),
        runs=there.runs,
        bus=there.bus,
        objects=there.objects,
        datasets=Datasets(LocalDatasets(), hubs),
        clock=SystemClock(),
    )


def _model_runner(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.adapters.endpoints import Endpoints  # noqa: PLC0415
    from evalmesh.adapters.engines.house import HouseRules  # noqa: PLC0415
    from evalmesh.adapters.hubs.hubs import HubRules  # noqa: PLC0415
    from evalmesh.model_runner import service as model_runner  # noqa: PLC0415
    from evalmesh.model_runner.settings import ModelRunnerSettings  # noqa: PLC0415
    from evalmesh.wire.runs.media_files import MediaFiles  # noqa: PLC0415

    there = opened.connections
    hubs = HubRules(key_of=opened.servers.key_for)
    rules = HouseRules(remote_code=True, logs=settings.state_dir / "logs", hubs=hubs)
    endpoints = Endpoints(opened.servers, MediaFiles(there.objects), rules)
    service = model_runner.build(
        settings=ModelRunnerSettings(drain_s=settings.drain_s, ack_wait_s=settings.ack_wait_s, host=settings.host),
        runs=there.runs,
        bus=there.bus,
        signals=there.signals,
        objects=there.objects,
        open_endpoint=endpoints,
        clock=SystemClock(),
    )
    return replace(service, close=endpoints.close)


def _scorer(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.scorer import service as scorer  # noqa: PLC0415
    from evalmesh.scorer.settings import ScorerSettings  # noqa: PLC0415

    there = opened.connections
    return scorer.build(
        settings=ScorerSettings(drain_s=settings.drain_s, ack_wait_s=settings.ack_wait_s),
        runs=there.runs,
        bus=there.bus,
        objects=there.objects,
        clock=SystemClock(),
    )


def _load_generator(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.adapters.server_metrics import open_server_metrics  # noqa: PLC0415
    from evalmesh.load_generator import service as load_generator  # noqa: PLC0415
    from evalmesh.load_generator.settings import LoadGeneratorSettings  # noqa: PLC0415

    there = opened.connections
    own = LoadGeneratorSettings(
        drain_s=settings.drain_s,
        ack_wait_s=settings.ack_wait_s,
        seats=settings.generators,
        warm_pairs=settings.generators,
        scratch_dir=str(settings.scratch_dir),
        host=settings.host,
        hosts_dir=str(settings.hosts_dir),
    )
    ports = load_generator.LoadGeneratorPorts(
        runs=there.runs,
        load_tests=there.load_tests,
        bus=there.bus,
        signals=there.signals,
        objects=there.objects,
        clock=SystemClock(),
        servers=opened.servers,
        probe=opened.probe,
        open_server_metrics=partial(open_server_metrics, servers=opened.servers),
        pairs=opened.pairs,
    )
    service = load_generator.build(own, ports)
    # Without seats there is nothing to conduct with; a load test that was left behind must not begin by itself.
    return service if settings.generators else replace(service, loops=())


def _report_aggregator(settings: LocalSettings, opened: Opened) -> Service:
    from evalmesh.report_aggregator import service as report_aggregator  # noqa: PLC0415
    from evalmesh.report_aggregator.settings import ReportAggregatorSettings  # noqa: PLC0415

    there = opened.connections
    return report_aggregator.build(
        settings=ReportAggregatorSettings(drain_s=settings.drain_s, ack_wait_s=settings.ack_wait_s),
        runs=there.runs,
        load_tests=there.load_tests,
        bus=there.bus,
        objects=there.objects,
        clock=SystemClock(),
    )


_ROOMS: Mapping[str, Callable[[LocalSettings, Opened], Service]] = {
    "gateway": _gateway,
    "dataset_loader": _dataset_loader,
    "model_runner": _model_runner,
    "scorer": _scorer,
    "load_generator": _load_generator,
    "report_aggregator": _report_aggregator,
}
