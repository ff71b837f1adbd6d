"""Holds the results of a run against what the simulator says it answered, sample by sample."""

from typing import Any

from evalmesh.domain.run import Run
from evalmesh.sdk import AsyncClient
from tests.kit.simulator import SimulatorProcess


async def results_of(client: AsyncClient, run: Run, benchmark: str) -> list[dict[str, Any]]:
    return [row async for row in client.results(run, benchmark)]


async def check_against_truth(client: AsyncClient, run: Run, benchmark: str, simulator: SimulatorProcess) -> int:
    """Every request once, every score as the simulator answered it; returns how many requests were right."""
    rows = await results_of(client, run, benchmark)
    keys = [(row["sample_id"], row["repeat"]) for row in rows]
    assert len(set(keys)) == len(keys), "a request is in the results twice"
    truth = simulator.samples(benchmark)
    assert {row["sample_id"] for row in rows} == set(truth)
    wrongly_scored = {
        row["sample_id"]: (row["answer"], row["target"], row["completion"])
        for row in rows
        # A sample is answered the same way however often it is asked with the same seed.
        if row["state"] == "scored" and (row["score_accuracy"] == 1.0) != (truth[row["sample_id"]]["right"] > 0)
    }
    assert wrongly_scored == {}
    return sum(row["score_accuracy"] == 1.0 for row in rows)


def asked_again(simulator: SimulatorProcess, benchmark: str) -> int:
    """Requests the simulator got beyond the first for each sample."""
    return sum(sample["asked"] - 1 for sample in simulator.samples(benchmark).values())
