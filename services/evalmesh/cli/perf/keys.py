"""EvalScope's perf keys that this build takes in another way: what is done instead, or what to do instead."""

from collections.abc import Iterator, Mapping
from typing import Any

from evalmesh.domain.errors import Unimplemented

INSTEAD: Mapping[str, str] = {
    "enable_pd_metrics": "the first gap of each stream is in requests.parquet, and chunk gaps are always reported.",
    "queue_size_multiplier": "requests are prepared as far ahead as a socket buffer takes.",
    "in_flight_task_multiplier": "nothing is scheduled ahead of its time here.",
    "num_workers": "prompts are made while requests are sent, by one process per generator; see generators.",
    "db_commit_interval": "records are written to a file of fixed-size rows; there is no database.",
    "log_every_n_query": "progress is shown all the time on a terminal, and every two seconds elsewhere.",
    "enable_progress_tracker": "follow it from anywhere with `evalmesh perf watch`, or with the SDK.",
    "image_patch_size": "image tokens are taken from the server's usage.",
    "sla_number_multiplier": "a probe goes on until its interval decides; its number of requests follows from that.",
}
"""Accepted; the sentence is said, since it changes nothing that is measured."""

_REFUSED: Mapping[str, str] = {
    "scenario": "agents are not part of this build; replay their traffic with --dataset trace, whose rows may carry "
    "timestamps and session ids.",
}
FOREIGN = (*INSTEAD, *_REFUSED)
API_ADVICE: Mapping[str, str] = {
    "dashscope": "use its OpenAI-compatible address (it ends in /compatible-mode/v1) with api openai",
    "custom": "install a plug-in (entry point group `evalmesh.load_apis`) and give its name",
    "systemone": "only OpenAI's APIs are part of this build; others come as plug-ins (`evalmesh.load_apis`)",
    "autotrust": "only OpenAI's APIs are part of this build; others come as plug-ins (`evalmesh.load_apis`)",
}


def without_foreign(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What this build uses, and a sentence for each key that is taken in another way.

    Raises `Unimplemented` for keys whose wish cannot be met.
    """
    kept = {key: value for key, value in given.items() if key not in FOREIGN}
    return kept, list(_said(given))


def _said(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        if value is None or value is False:
            continue
        if key in _REFUSED:
            raise Unimplemented(f"{key}: it is EvalScope's and not supported here; {_REFUSED[key]}", {"field": key})
        if key in INSTEAD:
            yield f"{key}: not needed here; {INSTEAD[key]}"
