"""The public API follows the AIPs (https://google.aip.dev), and does not change under its users.

An exception is written down here, with its reason, or it is a defect.
"""

import copy
import filecmp
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from tests.contract.proto_snapshot import (
    ROOT,
    Snapshot,
    breaking_changes,
    proto_files,
    protoc,
    read_descriptors,
    read_snapshot,
    take_snapshot,
)

UPDATE = "If this is meant, run `make proto-snapshot` and commit the result with the reason."

ANSWERS_OF_THEIR_OWN = {
    # AIP-136 leaves the answer of custom methods open; these give a thing that has a name, not a wrapper of one.
    "ModelService.Generate": "Completion",
    "ModelService.DescribeModel": "ModelDescription",
    "RunService.WatchRun": "RunEvent",
    "LoadTestService.WatchLoadTest": "LoadTestEvent",
}
"""Methods that neither give a resource nor a `...Response`."""

LISTS_OF_NAMES = {"ListScorersResponse", "ListLoadDatasetsResponse"}
"""AIP-132 lists resources; a kind of scorer or of load is a string (it has no state to read): these list strings."""

PUBLIC, INTERNAL = "evalmesh.v1", "evalmesh.internal.v1"


@dataclass(frozen=True)
class Place:
    """A descriptor, its full name, and the comment above it."""

    name: str
    comment: str
    descriptor: object


@cache
def files() -> dict[str, FileDescriptorProto]:
    return {file.name: file for file in read_descriptors().file}


def places(package: str) -> Iterator[Place]:
    """Everything that can carry a comment."""
    for file in files().values():
        if file.package != package:
            continue
        comments = {
            tuple(location.path): location.leading_comments.strip() for location in file.source_code_info.location
        }
        for index, message in enumerate(file.message_type):
            yield from _message_places(message, (4, index), package, comments)
        for index, enum in enumerate(file.enum_type):
            yield from _enum_places(enum, (5, index), package, comments)
        for index, service in enumerate(file.service):
            yield Place(f"{package}.{service.name}", comments.get((6, index), ""), service)
            for at, rpc in enumerate(service.method):
                comment = comments.get((6, index, 2, at), "")
                yield Place(f"{package}.{service.name}.{rpc.name}", comment, rpc)


Comments = dict[tuple[int, ...], str]


def _message_places(message: DescriptorProto, path: tuple[int, ...], scope: str, comments: Comments) -> Iterator[Place]:
    if message.options.map_entry:
        return
    name = f"{scope}.{message.name}"
    yield Place(name, comments.get(path, ""), message)
    for index, field in enumerate(message.field):
        yield Place(f"{name}.{field.name}", comments.get((*path, 2, index), ""), field)
    for index, nested in enumerate(message.nested_type):
        yield from _message_places(nested, (*path, 3, index), name, comments)
    for index, enum in enumerate(message.enum_type):
        yield from _enum_places(enum, (*path, 4, index), name, comments)


def _enum_places(enum: EnumDescriptorProto, path: tuple[int, ...], scope: str, comments: Comments) -> Iterator[Place]:
    yield Place(f"{scope}.{enum.name}", comments.get(path, ""), enum)
    for index, value in enumerate(enum.value):
        yield Place(f"{scope}.{enum.name}.{value.name}", comments.get((*path, 2, index), ""), value)


def messages(package: str = PUBLIC) -> dict[str, DescriptorProto]:
    return {place.name: place.descriptor for place in places(package) if isinstance(place.descriptor, DescriptorProto)}


def fields(package: str = PUBLIC) -> Iterator[tuple[str, FieldDescriptorProto]]:
    for place in places(package):
        if isinstance(place.descriptor, FieldDescriptorProto):
            yield place.name, place.descriptor


def methods() -> Iterator[tuple[str, str, DescriptorProto, DescriptorProto]]:
    """(Service.Method, Method, request, answer)."""
    known = messages()
    for file in files().values():
        for service in file.service:
            for rpc in service.method:
                yield f"{service.name}.{rpc.name}", rpc.name, known[rpc.input_type[1:]], known[rpc.output_type[1:]]


def field_of(message: DescriptorProto, name: str) -> FieldDescriptorProto | None:
    return next((field for field in message.field if field.name == name), None)


def has_name_first(message: DescriptorProto) -> bool:
    field = field_of(message, "name")
    return field is not None and field.number == 1 and field.type == FieldDescriptorProto.TYPE_STRING


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_there_is_something_to_check() -> None:
    assert {"evalmesh/v1/runs.proto", "evalmesh/internal/v1/messages.proto"} <= set(proto_files())
    assert len(list(methods())) > 10
    assert len(messages()) > 20


def test_a_package_names_its_version_and_lies_in_its_folder() -> None:
    for path, file in files().items():
        assert re.fullmatch(r"evalmesh(\.[a-z]+)*\.v[1-9][0-9]*", file.package), path
        assert Path(path).parent.as_posix() == file.package.replace(".", "/"), path


def test_everything_public_has_a_comment() -> None:
    bare = [place.name for place in places(PUBLIC) if not place.comment]
    assert not bare


def test_every_internal_message_has_a_comment() -> None:
    bare = [p.name for p in places(INTERNAL) if isinstance(p.descriptor, DescriptorProto) and not p.comment]
    assert not bare


@pytest.mark.parametrize("package", [PUBLIC, INTERNAL])
def test_names_are_cased_as_proto_wants_them(package: str) -> None:
    wrong = [name for name, field in fields(package) if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name)]
    wrong += [name for name, m in messages(package).items() if not re.fullmatch(r"([A-Z][a-z0-9]+)+", m.name)]
    assert not wrong


def test_services_end_in_service_and_methods_start_with_a_verb() -> None:
    for name, method, _, _ in methods():
        assert name.split(".")[0].endswith("Service"), name
        assert re.fullmatch(r"([A-Z][a-z0-9]+)+", method), name


def test_the_zero_of_an_enum_is_unspecified() -> None:
    enums = [place.descriptor for place in places(PUBLIC) if isinstance(place.descriptor, EnumDescriptorProto)]
    assert enums
    for enum in enums:
        zero = next(value for value in enum.value if value.number == 0)
        assert zero.name == f"{snake(enum.name).upper()}_UNSPECIFIED"
        assert all(re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", value.name) for value in enum.value)


def test_lists_come_in_pages() -> None:
    lists = [found for found in methods() if found[1].startswith("List") or field_of(found[2], "page_size")]
    assert lists
    for name, _, request, answer in lists:
        size, token = field_of(request, "page_size"), field_of(request, "page_token")
        assert size is not None, name
        assert size.type == FieldDescriptorProto.TYPE_INT32, name
        assert token is not None, name
        assert token.type == FieldDescriptorProto.TYPE_STRING, name
        assert field_of(answer, "next_page_token") is not None, name
        repeated = [field for field in answer.field if field.label == FieldDescriptorProto.LABEL_REPEATED]
        assert [field.number for field in repeated] == [1], name


def test_resources_have_a_name() -> None:
    known = messages()
    for name, method, request, answer in methods():
        if method.startswith(("Get", "Create")):
            assert answer.name == method.removeprefix("Get").removeprefix("Create"), name
            assert has_name_first(answer), name
        if method.startswith(("Get", "Cancel", "Resume", "Watch")):
            assert has_name_first(request), name
        if method.startswith("List") and answer.name not in LISTS_OF_NAMES:
            listed = known[answer.field[0].type_name[1:]]
            assert has_name_first(listed), name


def test_methods_have_a_request_and_an_answer_of_their_own() -> None:
    for name, method, request, answer in methods():
        assert request.name == f"{method}Request", name
        resource = has_name_first(answer)
        assert resource or answer.name == ANSWERS_OF_THEIR_OWN.get(name, f"{method}Response"), name
        assert not (method.startswith("Create") and answer.name.endswith("Response")), name


def test_written_exceptions_are_still_needed() -> None:
    answers = {name: answer.name for name, _, _, answer in methods()}
    assert {name: answers.get(name) for name in ANSWERS_OF_THEIR_OWN} == ANSWERS_OF_THEIR_OWN
    assert set(answers.values()) >= LISTS_OF_NAMES


def test_times_are_timestamps_and_spans_are_durations() -> None:
    for name, field in fields():
        is_timestamp = field.type_name == ".google.protobuf.Timestamp"
        assert field.name.endswith("_time") == is_timestamp, name
        assert not re.search(r"_(s|ms|ns|sec|secs|seconds|millis)$", field.name), f"{name} should be a Duration"


def test_flags_are_named_without_is() -> None:
    assert not [name for name, field in fields() if field.name.startswith("is_")]


def test_generated_code_is_what_the_files_say(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
    protoc(*outputs, PATH=path)
    made = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.py*"))
    assert made
    stale = [str(name) for name in made if not _equal(tmp_path / name, ROOT / "services" / name)]
    known = {name.relative_to(ROOT / "services") for name in (ROOT / "services/evalmesh").rglob("*_pb2*.py*")}
    left_over = sorted(str(name) for name in known - set(made) if "__pycache__" not in name.parts)
    assert not stale, "run `make proto` and commit the result"
    assert not left_over, "these files belong to no .proto any more"


def _equal(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def test_nothing_promised_is_taken_back() -> None:
    broken = breaking_changes(read_snapshot(), take_snapshot(read_descriptors()))
    assert not broken, f"Clients of the last version would break: {broken}. {UPDATE}"


def test_what_is_new_is_recorded() -> None:
    new, recorded = take_snapshot(read_descriptors()), read_snapshot()
    unrecorded = breaking_changes(new, recorded)
    assert not unrecorded, f"Not recorded, so not protected: {unrecorded}. {UPDATE}"


class TestBreakingChanges:
    OLD: ClassVar[Snapshot] = {
        "message p.v1.M": {"name": "1 string", "size": "2 int32"},
        "enum p.v1.E": {"E_UNSPECIFIED": "0"},
        "service p.v1.S": {"GetM": "p.v1.GetMRequest -> p.v1.M"},
    }

    @pytest.mark.parametrize(
        ("entry", "member", "value"),
        [
            ("message p.v1.M", "size", None),
            ("message p.v1.M", "size", "3 int32"),
            ("message p.v1.M", "size", "2 int64"),
            ("message p.v1.M", "size", "2 repeated int32"),
            ("enum p.v1.E", "E_UNSPECIFIED", "1"),
            ("service p.v1.S", "GetM", "p.v1.GetMRequest -> stream p.v1.M"),
        ],
    )
    def test_are_told(self, entry: str, member: str, value: str | None) -> None:
        new = copy.deepcopy(self.OLD)
        if value is None:
            del new[entry][member]
        else:
            new[entry][member] = value
        (told,) = breaking_changes(self.OLD, new)
        assert entry in told
        assert member in told

    def test_a_message_that_is_gone(self) -> None:
        new = {name: members for name, members in self.OLD.items() if name != "enum p.v1.E"}
        assert breaking_changes(self.OLD, new) == ["enum p.v1.E is gone"]

    def test_additions_break_nobody(self) -> None:
        new = copy.deepcopy(self.OLD) | {"message p.v1.N": {}}
        new["message p.v1.M"]["color"] = "3 string"
        assert breaking_changes(self.OLD, new) == []
