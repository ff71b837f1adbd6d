"""Wires the scorer."""

import grpc.aio

from evalmesh.domain.work import Step
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.set_aside import ShardSetAside
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.scorer.judgement import Judgement
from evalmesh.scorer.pool import KillablePool
from evalmesh.scorer.servicer import ScoringServicer
from evalmesh.scorer.settings import ScorerSettings
from evalmesh.scorer.worker import ScoreWorker
from evalmesh.v1 import scoring_pb2_grpc
from evalmesh.wire.runs.shard_files import ShardFiles


def build(*, settings: ScorerSettings, runs: RunStore, bus: Bus, objects: ObjectStore) -> Service:
    """The scorer."""
    control = ControlView(runs)
    pool = KillablePool(settings.processes, preload=("sympy", "evalmesh.benchmarks.registry"))
    judgement = Judgement(pool, settings.sample_deadline_s)
    scores = ScoreWorker(files=ShardFiles(objects), bus=bus, judgement=judgement)
    worker = Worker(
        bus=bus,
        queue=Queue(Step.SCORE),
        handle=scores.handle,
        set_aside=ShardSetAside(bus),
        control=control,
        policy=WorkPolicy(
            concurrency=settings.shards_at_once, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s
        ),
    )

    def mount(server: grpc.aio.Server) -> None:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(objects, judgement), server)

    return Service(
        name="scorer",
        grpc_services=("evalmesh.v1.ScoringService",),
        mount=mount,
        loops=(control.follow, worker.run),
        close=pool.close,
        ready=lambda: bus.connected,
    )
