"""What the .proto files promise, in a form that can be committed and compared.

`make proto-snapshot` runs this as a script: it writes proto_snapshot.json beside it and says what it breaks.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[2]
PROTO_DIR = ROOT / "proto"
SNAPSHOT_PATH = Path(__file__).with_suffix(".json")

Snapshot = dict[str, dict[str, Any]]


def proto_files() -> list[str]:
    """Paths of our files relative to `proto/`, as imports spell them."""
    return sorted(path.relative_to(PROTO_DIR).as_posix() for path in PROTO_DIR.rglob("*.proto"))


def protoc(*arguments: str, **environment: str) -> None:
    """Runs the compiler that came with grpcio-tools over all our files."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO_DIR}", *arguments, *proto_files()]
    subprocess.run(command, check=True, env=environment or None, timeout=60)


def read_descriptors() -> FileDescriptorSet:
    """Our files with their comments, as the compiler understands them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.binpb"
        protoc("--include_source_info", f"--descriptor_set_out={path}")
        return FileDescriptorSet.FromString(path.read_bytes())


def take_snapshot(files: FileDescriptorSet) -> Snapshot:
    """Everything a peer of another version relies on: `{"message evalmesh.v1.Run": {"name": "1 string"}}`."""
    snapshot: Snapshot = {}
    for file in files.file:
        for message in file.message_type:
            _add_message(snapshot, file.package, message)
        for enum in file.enum_type:
            _add_enum(snapshot, file.package, enum)
        for service in file.service:
            snapshot[f"service {file.package}.{service.name}"] = {
                rpc.name: (
                    f"{'stream ' * rpc.client_streaming}{rpc.input_type[1:]} -> "
                    f"{'stream ' * rpc.server_streaming}{rpc.output_type[1:]}"
                )
                for rpc in service.method
            }
    return dict(sorted(snapshot.items()))


def _add_message(snapshot: Snapshot, scope: str, message: DescriptorProto) -> None:
    name = f"{scope}.{message.name}"
    if not message.options.map_entry:
        snapshot[f"message {name}"] = {field.name: _signature(message, field) for field in message.field}
    else:
        # A map is written on its field; its entry message only says of what.
        snapshot[f"map {name}"] = {field.name: _signature(message, field) for field in message.field}
    for nested in message.nested_type:
        _add_message(snapshot, name, nested)
    for enum in message.enum_type:
        _add_enum(snapshot, name, enum)


def _add_enum(snapshot: Snapshot, scope: str, enum: EnumDescriptorProto) -> None:
    snapshot[f"enum {scope}.{enum.name}"] = {value.name: str(value.number) for value in enum.value}


def _signature(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    words = [str(field.number)]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        words.append("repeated")
    if field.proto3_optional:
        words.append("optional")
    elif field.HasField("oneof_index"):
        words.append(f"oneof {message.oneof_decl[field.oneof_index].name}")
    words.append(field.type_name[1:] or kind)
    return " ".join(words)


def breaking_changes(old: Snapshot, new: Snapshot) -> list[str]:
    """What a peer built from `old` would stumble over; additions are none of it."""
    broken = []
    for name, members in old.items():
        if name not in new:
            broken.append(f"{name} is gone")
            continue
        for member, was in members.items():
            now = new[name].get(member)
            if now is None:
                broken.append(f"{name}: {member} = {was} is gone")
            elif now != was:
                broken.append(f"{name}: {member} was `{was}` and is `{now}`")
    return broken


def read_snapshot() -> Snapshot:
    """What was last promised."""
    snapshot: Snapshot = json.loads(SNAPSHOT_PATH.read_text())
    return snapshot


def main() -> None:
    """Records what the files say now."""
    new = take_snapshot(read_descriptors())
    broken = breaking_changes(read_snapshot(), new) if SNAPSHOT_PATH.exists() else []
    SNAPSHOT_PATH.write_text(json.dumps(new, indent=1) + "\n")
    for change in broken:
        print(f"BREAKING: {change}")
    print(f"{len(new)} entries recorded, {len(broken)} breaking changes; commit {SNAPSHOT_PATH.name} and say why.")


if __name__ == "__main__":
    main()
