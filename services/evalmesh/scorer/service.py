"""Wires the scorer."""

from functools import partial

import grpc.aio

from evalmesh.domain.work import Queue, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.service import Service
from evalmesh.runtime.stages import PassOn, ShardSetAside
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.scorer.judgement import Judgement
from evalmesh.scorer.pool import KillablePool
from evalmesh.scorer.servicer import ScoringServicer
from evalmesh.scorer.settings import ScorerSettings
from evalmesh.scorer.worker import ScoreWorker
from evalmesh.v1 import scoring_pb2_grpc
from evalmesh.wire.runs.shard_files import RunFiles


def build(*, settings: ScorerSettings, runs: RunStore, bus: Bus, objects: ObjectStore, clock: Clock) -> Service:
    """The scorer."""
    control = ControlView(runs)
    preload = ("math_verify.grader", "latex2sympy2_extended.latex2sympy2", "evalmesh.scorer.judgement")
    pool = KillablePool(settings.processes, preload, settings.memory_mib << 20)
    judgement = Judgement(pool, settings.sample_deadline_s)
    files = RunFiles(objects)
    plans = PlanCache(files)
    scores = ScoreWorker(files=files, plans=plans, pass_on=PassOn(files, plans, bus), judgement=judgement)
    worker = Worker[WorkItem](
        bus=bus,
        take_from=partial(bus.consume, Queue.SCORE),
        handle=scores.handle,
        set_aside=ShardSetAside(plans, bus, RunRecords(runs, bus, clock)),
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
