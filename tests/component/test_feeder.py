"""The feeder as its neighbours meet it: a process, commands, words, and frames in a socket."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tests.kit import tokenizers as kit

from evalmesh.domain.load_test import ArrivalSpec, Lengths, LoadLevel, LoadTarget, PromptSpec, TurnSpec
from evalmesh.load.measure.records import Flag
from evalmesh.load_generator.protocol import (
    FRAME,
    Conversation,
    Fed,
    FeederCommand,
    FeederReady,
    FeederSaid,
    FeederSetup,
    FeedFailed,
    FeedLevel,
    FrameKind,
    StopFeed,
)

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")
SHORT = PromptSpec(input_tokens=Lengths("uniform", 4, 12), output_tokens=Lengths("uniform", 2, 5))


class Frame(NamedTuple):
    kind: int
    flags: int
    turns: int
    size: int
    index: int
    due_s: float
    think_s: float
    conversation: int
    prepared_tokens: int
    max_tokens: int
    reserved: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Child:
    """A feeder process and the engine's end of its socket."""

    def __init__(self, buffer_bytes: int = 1 << 16) -> None:
        theirs, self.feed = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.feed.settimeout(30)
        command = [sys.executable, "-m", "evalmesh.load_generator.feeder", "--feed-fd", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(theirs.fileno(),)
            )
        self._read = b""

    def tell(self, command: FeederCommand) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command) + b"\n")
        self.process.stdin.flush()

    def hear(self) -> FeederSaid:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the feeder ended"
        said: FeederSaid = msgspec.json.decode(line, type=FeederSaid)
        return said

    def set_up(self, prompts: PromptSpec, seat: int = 0, seats: int = 1, **more: Any) -> FeederSaid:
        paths = {"file_path": "", "tokenizer_path": "", **more}
        target = paths.pop("target", TARGET)
        self.tell(FeederSetup(target, prompts, seed=42, seat=seat, seats=seats, **paths))
        return self.hear()

    def frame(self) -> Frame:
        while True:
            if len(self._read) >= FRAME.size:
                head = FRAME.unpack_from(self._read)
                end = FRAME.size + head[3]
                if len(self._read) >= end:
                    body, self._read = self._read[FRAME.size : end], self._read[end:]
                    return Frame(*head, body)
            data = self.feed.recv(1 << 16)
            assert data, "the feed ended"
            self._read += data

    def level(self) -> list[Frame]:
        """Frames up to the end of the level, that one included."""
        found = [self.frame()]
        while found[-1].kind not in {FrameKind.LEVEL_END, FrameKind.FAILED}:
            found.append(self.frame())
        return found

    def fed(self, level: FeedLevel) -> tuple[list[Frame], Fed]:
        """The requests of a whole level, and what was said of it."""
        self.tell(level)
        *requests, end = self.level()
        said = self.hear()
        assert isinstance(said, Fed)
        assert (end.kind, end.index, said.number) == (FrameKind.LEVEL_END, level.number, level.number)
        assert said.requests == len(requests)
        return requests, said

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.feed.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait(10)
            self.process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def started(**how: Any) -> Child:
        children.append(Child(**how))
        return children[-1]

    yield started
    for child in children:
        child.close()


@pytest.fixture
def child(start: Callable[..., Child]) -> Child:
    return start()


def closed(number: int = 0, requests: int = 50, **more: Any) -> FeedLevel:
    values: dict[str, Any] = {"warmup": 0, "first_prompt": 0, **more}
    return FeedLevel(number, LoadLevel(parallel=4, number=requests), ArrivalSpec(), **values)


def open_loop(number: int = 0, **more: Any) -> FeedLevel:
    values: dict[str, Any] = {"warmup": 0, "first_prompt": 0, **more}
    return FeedLevel(number, LoadLevel(rate=100, number=300), ArrivalSpec("poisson"), **values)


class TestLevels:
    def test_closed_loop(self, child: Child) -> None:
        said = child.set_up(SHORT)
        assert said == FeederReady()
        frames, fed = child.fed(closed(warmup=5))
        assert "one taken for one token" in fed.note
        assert [frame.index for frame in frames] == [frame.conversation for frame in frames] == list(range(55))
        assert all(math.isnan(frame.due_s) for frame in frames)
        assert [frame.flags for frame in frames] == [Flag.WARMUP] * 5 + [0] * 50
        assert (fed.prompts, fed.repeated) == (55, False)
        for frame in frames:
            assert frame.size == len(frame.body)
            (message,) = frame.json["messages"]
            assert len(message["content"].split(" ")) == frame.prepared_tokens in range(4, 13)
            assert frame.json["max_tokens"] == frame.max_tokens in range(2, 6)
            assert (frame.json["model"], frame.json["stream"]) == ("tiny", True)

    def test_open_loop_has_due_times(self, child: Child) -> None:
        child.set_up(SHORT)
        frames, _ = child.fed(open_loop())
        due = [frame.due_s for frame in frames]
        assert due == sorted(due)
        assert 2.9 < due[-1] < 3

    def test_seats_share_one_schedule_and_one_row_of_prompts(self, start: Callable[..., Child]) -> None:
        alone = start()
        alone.set_up(SHORT)
        whole, _ = alone.fed(open_loop(2, first_prompt=70))
        shared: list[Frame] = []
        for seat in range(3):
            child = start()
            child.set_up(SHORT, seat, 3)
            frames, fed = child.fed(open_loop(2, first_prompt=70))
            assert all(frame.index % 3 == seat for frame in frames)
            assert fed.prompts == 298 + seat
            shared += frames
        assert sorted(shared, key=lambda frame: frame.index) == whole

    def test_levels_differ_in_prompts_and_in_arrivals(self, child: Child) -> None:
        child.set_up(SHORT)
        first, fed = child.fed(open_loop())
        second, _ = child.fed(open_loop(1, first_prompt=fed.prompts))
        assert not {frame.body for frame in first} & {frame.body for frame in second}
        assert [frame.due_s for frame in first] != [frame.due_s for frame in second]

    def test_another_load_test_in_the_same_process(self, child: Child) -> None:
        child.set_up(SHORT)
        child.fed(closed())
        child.set_up(PromptSpec(prompt="say hello"))
        frames, fed = child.fed(closed())
        assert {frame.json["messages"][0]["content"] for frame in frames} == {"say hello"}
        assert fed.repeated

    def test_lengths_are_exact_under_a_tokenizer(self, child: Child, tmp_path: Path) -> None:
        folder = kit.byte_level(tmp_path)
        spec = PromptSpec(input_tokens=Lengths("uniform", 30, 80))
        assert child.set_up(spec, tokenizer_path=str(folder)) == FeederReady()
        core = kit.Tokenizer.from_file(str(folder / "tokenizer.json"))
        frames, fed = child.fed(closed(requests=200))
        assert "exact" in fed.note
        assert len({frame.prepared_tokens for frame in frames}) > 40
        for frame in frames:
            text = f"<|start|>user\n{frame.json['messages'][0]['content']}<|end|>\n<|start|>assistant\n"
            assert len(core.encode(text, add_special_tokens=False).ids) == frame.prepared_tokens

    def test_lengths_are_set_by_what_the_server_counts(self, child: Child) -> None:
        spec = PromptSpec(input_tokens=Lengths("fixed", 50, 50))
        child.set_up(spec)
        frames, _ = child.fed(closed(requests=3))
        assert {len(frame.json["messages"][0]["content"].split(" ")) for frame in frames} == {50}
        child.set_up(spec, token_scale=2.0, token_offset=10)
        frames, fed = child.fed(closed(1, requests=3))
        assert {len(frame.json["messages"][0]["content"].split(" ")) for frame in frames} == {20}
        assert "2 tokens per word and 10 around" in fed.note

    def test_conversations(self, child: Child) -> None:
        spec = PromptSpec(
            "random_multi_turn",
            input_tokens=Lengths("fixed", 6, 6),
            output_tokens=Lengths("uniform", 3, 9),
            turns=TurnSpec(2, 4, think_mean_s=2.0),
            body={"temperature": 0, "max_tokens": 99},
        )
        child.set_up(spec)
        frames, _ = child.fed(closed(requests=300, warmup=2))
        pauses: list[float] = []
        for frame in frames:
            assert frame.kind == FrameKind.CONVERSATION
            talk = msgspec.json.decode(frame.body, type=Conversation)
            assert frame.turns == len(talk.turns) == len(talk.max_tokens) == len(talk.think_s) in range(2, 5)
            assert talk.prepared_tokens == [6] * frame.turns
            assert (frame.prepared_tokens, frame.max_tokens) == (6, talk.max_tokens[0])
            assert talk.think_s[0] == 0
            pauses += talk.think_s[1:]
            assert json.loads(bytes(talk.body)) == {
                "model": "tiny",
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0,
            }
        assert sum(pauses) / len(pauses) == pytest.approx(2, rel=0.2)

    def test_a_trace_ends_when_it_ends(self, child: Child, tmp_path: Path) -> None:
        path = tmp_path / "trace.jsonl"
        rows = [
            {"timestamp": 100 * n, "input_length": 20 + n, "output_length": 2 + n, "hash_ids": [n]} for n in range(10)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        child.set_up(PromptSpec("trace", file_name="trace.jsonl"), file_path=str(path))
        replay = FeedLevel(0, LoadLevel(), ArrivalSpec("trace", speed=2), 0, 0)
        frames, fed = child.fed(replay)
        assert [frame.due_s for frame in frames] == pytest.approx([n * 0.05 for n in range(10)])
        assert [frame.prepared_tokens for frame in frames] == [20 + n for n in range(10)]
        assert [frame.max_tokens for frame in frames] == [2 + n for n in range(10)]
        assert not fed.repeated
        again, fed = child.fed(msgspec.structs.replace(replay, number=1, first_prompt=10))
        assert [frame.due_s for frame in again] == [frame.due_s for frame in frames]
        assert not {frame.body for frame in again} & {frame.body for frame in frames}
        longer = FeedLevel(2, LoadLevel(number=15), ArrivalSpec("trace"), 0, 20)
        frames, fed = child.fed(longer)
        assert len(frames) == 15
        assert fed.repeated


class TestStops:
    def test_a_stop_comes_through_a_full_socket(self, child: Child) -> None:
        child.set_up(SHORT)
        child.tell(FeedLevel(3, LoadLevel(parallel=4, duration_s=60), ArrivalSpec(), 0, 0))
        first = child.frame()
        time.sleep(0.2)  # the feeder fills the socket and waits
        child.tell(StopFeed())
        *requests, end = child.level()
        assert [frame.index for frame in [first, *requests]] == list(range(len(requests) + 1))
        assert (end.kind, end.index) == (FrameKind.LEVEL_END, 3)
        said = child.hear()
        assert isinstance(said, Fed)
        assert said.requests == said.prompts == len(requests) + 1
        frames, _ = child.fed(closed(4))
        assert len(frames) == 50

    def test_a_stop_that_comes_late_stops_nothing_else(self, child: Child) -> None:
        child.set_up(SHORT)
        child.fed(closed())
        child.tell(StopFeed())
        frames, _ = child.fed(closed(1))
        assert len(frames) == 50

    def test_the_end_of_its_input_ends_it_though_the_socket_is_full(self, child: Child) -> None:
        child.set_up(SHORT)
        child.tell(FeedLevel(0, LoadLevel(parallel=4, duration_s=60), ArrivalSpec(), 0, 0))
        child.frame()
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(5) == 0

    def test_an_interrupt_at_the_terminal_is_the_services_business(self, child: Child) -> None:
        child.set_up(SHORT)
        os.kill(child.process.pid, signal.SIGINT)
        frames, _ = child.fed(closed())
        assert len(frames) == 50

    def test_an_engine_that_is_gone_is_told(self, child: Child) -> None:
        child.set_up(SHORT)
        child.feed.close()
        child.tell(closed())
        said = child.hear()
        assert isinstance(said, FeedFailed)
        assert "engine" in said.error


class TestFaults:
    def test_a_set_up_that_cannot_work_names_the_field(self, child: Child) -> None:
        said = child.set_up(PromptSpec("openq"))
        assert isinstance(said, FeedFailed)
        assert (said.number, said.field) == (-1, "prompts.dataset")
        assert "Did you mean 'openqa'" in said.error
        assert isinstance(child.set_up(SHORT), FeederReady)

    def test_a_level_after_a_failed_set_up_fails(self, child: Child) -> None:
        child.set_up(PromptSpec("openq"))
        child.tell(closed())
        said = child.hear()
        assert isinstance(said, FeedFailed)
        assert said.number == 0
        assert child.frame().kind == FrameKind.FAILED

    def test_a_file_that_breaks_off_ends_the_level_with_the_reason(self, child: Child, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps([{"question": f"q{n}"} for n in range(30)])[:-40], encoding="utf-8")
        assert isinstance(child.set_up(PromptSpec("openqa", file_name="a.json"), file_path=str(path)), FeederReady)
        child.tell(closed(6))
        *requests, end = child.level()
        assert 20 < len(requests) < 30
        assert (end.kind, end.index) == (FrameKind.FAILED, 6)
        said = child.hear()
        assert isinstance(said, FeedFailed)
        assert said.error == end.body.decode()
        assert "is not valid JSON: item 29, line 1" in said.error
        assert said.field == "prompts.file_digest"

    def test_a_command_that_is_none_ends_it(self) -> None:
        child = Child()
        try:
            assert child.process.stdin is not None
            child.process.stdin.write(b"{}\n")
            child.process.stdin.flush()
            assert child.process.wait(10) == 1
        finally:
            child.close()

    def test_wrong_arguments(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "evalmesh.load_generator.feeder"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "usage" in done.stderr


def test_it_starts_light() -> None:
    """What a feeder imports before it knows what is asked is what every cold start pays."""
    code = "import sys, evalmesh.load_generator.feeder.process; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"tokenizers", "PIL", "jinja2", "numpy", "pyarrow", "pydantic", "grpc", "asyncio", "importlib.metadata"}
    assert not heavy & set(done.stdout.split())
