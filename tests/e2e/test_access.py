"""Nobody gets in: every method of every server asks who calls, and another user of the machine reads nothing."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.kit.cli import running, until
from tests.kit.nats import running_server
from tests.kit.platform import opened
from tests.kit.services import ROOMS, ServiceChild, all_services

from evalmesh.domain.errors import InvalidInput, Unauthenticated
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import (  # noqa: F401  (their descriptors are what is walked through)
    benchmarks_pb2,
    load_generators_pb2,
    load_tests_pb2,
    models_pb2,
    reports_pb2,
    runs_pb2,
    scoring_pb2,
)

SERVICES = ("Run", "LoadTest", "Benchmark", "Model", "Scoring", "Report", "Load")
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
TOKEN = "token-of-the-operator-0123456789"
NOBODY = 65534
STRANGER = """
import os, sys, grpc
address, files = sys.argv[1], sys.argv[2:]
def ask(address):
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/evalmesh.v1.RunService/ListRuns")(b"", timeout=10)
            return "let in"
        except grpc.RpcError as error:
            return error.code().name
ask("127.0.0.1:1")  # loads what the other user may not read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(ask(address))
for path in files:
    try:
        os.listdir(path) if path.endswith("/") else open(path).read()
        print("read", path)
    except OSError:
        pass
sys.stdout.flush(); os._exit(0)
"""


def methods():
    """All of the public API, from the descriptors: one that is added tomorrow is asked too."""
    for name in SERVICES:
        for method in Default().FindServiceByName(f"evalmesh.v1.{name}Service").methods:
            yield f"/evalmesh.v1.{name}Service/{method.name}"


def code_of(channel, method, metadata=()):
    """Of a call with an empty request; `None` for one that is answered."""
    call = channel.stream_stream(method)(iter([b""]), timeout=10, metadata=metadata)
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code()
    return None


def assert_closed(address):
    with grpc.insecure_channel(address) as channel:
        for method in (*methods(), REFLECTION, "/no.such/Method"):
            for metadata in (
                (),
                (("authorization", "Bearer wrong"),),
                (("authorization", "Bearer "),),
                (("authorization", TOKEN[:-1]),),
            ):
                assert code_of(channel, method, metadata) is grpc.StatusCode.UNAUTHENTICATED, method
        probe = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert probe.status == health_pb2.HealthCheckResponse.SERVING


async def test_no_method_of_a_platform_on_one_machine_answers_without_its_token(tmp_path):
    async with opened(tmp_path) as (platform, client):
        await asyncio.to_thread(assert_closed, platform.address)
        assert [run async for run in client.list_runs()] == []
        async with AsyncClient(platform.address, token="") as stranger:
            with pytest.raises(Unauthenticated, match="EVALMESH_TOKEN"):
                await stranger.get_run("any")


async def test_no_service_of_its_own_process_answers_without_the_token(tmp_path):
    async with opened(tmp_path, processes=True) as (platform, client):
        assert platform.processes is not None
        for child in platform.processes.children.values():
            await asyncio.to_thread(assert_closed, f"127.0.0.1:{child.port}")
            assert platform.token not in " ".join(child.environment.values())
        assert [one.name async for one in client.list_benchmarks()]  # passed on with the gateway's own token


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority of its own, and a certificate of it for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
            "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "own.key", "-out",
            "own.csr", "-subj", "/CN=evalmesh")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "own.pem")  # fmt: skip
    return folder


async def test_services_of_a_cluster_take_tokens_and_tls_from_their_settings(tmp_path, certificates, monkeypatch):
    public, within = tmp_path / "public", tmp_path / "within"
    public.write_text(f"new-{TOKEN}\n{TOKEN}\n")
    within.write_text(f"within-{TOKEN}\n")
    environment = {
        "EVALMESH_OBJECTS_URL": (tmp_path / "objects").as_uri(),
        "EVALMESH_AUTH": "token",
        "EVALMESH_AUTH_TOKEN_FILE": str(within),
        "EVALMESH_GATEWAY_AUTH_TOKEN_FILE": str(public),
        "EVALMESH_GATEWAY_PEER_TOKEN_FILE": str(within),
        "EVALMESH_TLS_CERT_FILE": str(certificates / "own.pem"),
        "EVALMESH_TLS_KEY_FILE": str(certificates / "own.key"),
        "EVALMESH_TLS_CA_FILE": str(certificates / "ca.pem"),
        "EVALMESH_TLS_CLIENT_CERTS": "true",
        "EVALMESH_GATEWAY_TLS_CLIENT_CERTS": "false",
    }
    monkeypatch.setenv("EVALMESH_TLS_CA_FILE", str(certificates / "ca.pem"))
    with (
        running_server(tmp_path / "nats") as bus,
        all_services({**environment, "EVALMESH_BUS_URL": bus.url}) as children,
    ):
        gateway = f"https://{children['gateway'].address}"
        for token in (TOKEN, f"new-{TOKEN}"):
            async with AsyncClient(gateway, token=token) as client:
                assert [one.name async for one in client.list_benchmarks()]
        async with AsyncClient(gateway, token=f"within-{TOKEN}") as client:
            with pytest.raises(Unauthenticated):
                [one async for one in client.list_benchmarks()]
        roots = (certificates / "ca.pem").read_bytes()
        with grpc.secure_channel(children["scorer"].address, grpc.ssl_channel_credentials(roots)) as channel:
            answered = code_of(channel, "/evalmesh.v1.ScoringService/ListScorers", _bearer(f"within-{TOKEN}"))
        assert answered is grpc.StatusCode.UNAVAILABLE, "without a certificate of the caller there is no connection"


def _bearer(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_that_nothing_tells_who_may_call_does_not_start(room, tmp_path):
    child = ServiceChild(room, {"EVALMESH_AUTH": "token", "EVALMESH_ADDRESS": "0.0.0.0:0"})
    try:
        assert child.wait() == 2
        assert "EVALMESH_AUTH_TOKEN_FILE" in child.stderr
    finally:
        child.stop()


def test_a_file_without_a_token_is_refused(tmp_path):
    (tmp_path / "token").write_text("short\n")
    child = ServiceChild("scorer", {"EVALMESH_AUTH": "token", "EVALMESH_AUTH_TOKEN_FILE": str(tmp_path / "token")})
    try:
        assert child.wait() == 2
        assert "too short" in child.stderr
        assert "short\n" not in child.stderr.replace("too short", "")
    finally:
        child.stop()


async def test_a_client_is_told_which_token_file_it_cannot_read(monkeypatch):
    monkeypatch.setenv("EVALMESH_TOKEN_FILE", "/no/such/file")
    with pytest.raises(InvalidInput, match="EVALMESH_TOKEN_FILE"):
        AsyncClient("127.0.0.1:1")


def test_another_user_of_the_machine_neither_reads_nor_uses_a_platform(tmp_path, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can act as a second user")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)  # what keeps the other one out must be ours alone
    state = Path(os.environ["XDG_STATE_HOME"])
    address = "127.0.0.1:0"
    with running("up", "--address", address, "--work-dir", "w", cwd=tmp_path) as up:
        until(lambda: "evalmesh is up at" in up.stdout, what="up")
        where = up.stdout.partition("evalmesh is up at ")[2].partition(";")[0]
        hidden = tmp_path / "w" / ".evalmesh"
        found = [path for path in hidden.rglob("*") if "data" not in path.parts]
        names = [f"{path}/" if path.is_dir() else str(path) for path in found]
        names += [f"{hidden}/", *(str(path) for path in (state / "evalmesh").iterdir())]
        assert any(name.endswith("/token") for name in names)
        said = subprocess.run(
            [sys.executable, "-c", STRANGER, where, *names], capture_output=True, text=True, timeout=60, check=False
        )
    assert (said.returncode, said.stderr, said.stdout.splitlines()) == (0, "", ["UNAUTHENTICATED"])


def test_a_folder_that_earlier_versions_left_open_is_closed(tmp_path):
    (tmp_path / ".evalmesh" / "objects").mkdir(parents=True)
    (tmp_path / ".evalmesh").chmod(0o777)
    (tmp_path / ".evalmesh" / "objects").chmod(0o755)
    with running("up", "--address", "127.0.0.1:0", "--work-dir", ".", cwd=tmp_path) as up:
        until(lambda: "evalmesh is up at" in up.stdout, what="up")
        for folder in (tmp_path / ".evalmesh", *(one for one in (tmp_path / ".evalmesh").iterdir() if one.is_dir())):
            assert folder.stat().st_mode & 0o777 == 0o700, folder
        assert (tmp_path / ".evalmesh" / "token").stat().st_mode & 0o777 == 0o600


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can act as a second user")
    (tmp_path / ".evalmesh").mkdir()
    os.chown(tmp_path / ".evalmesh", NOBODY, NOBODY)
    with running("up", "--address", "127.0.0.1:0", "--work-dir", ".", cwd=tmp_path) as up:
        done = up.end()
    assert done.returncode == 2
    assert "belongs to another user" in done.stderr


def test_a_link_of_somebody_else_leads_nowhere(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can act as a second user")
    (tmp_path / "mine" / "scratch").mkdir(parents=True)
    (tmp_path / ".evalmesh").symlink_to("mine")
    os.chown(tmp_path / ".evalmesh", NOBODY, NOBODY, follow_symlinks=False)
    with running("up", "--address", "127.0.0.1:0", "--work-dir", ".", cwd=tmp_path) as up:
        done = up.end()
    assert (done.returncode, "belongs to another user" in done.stderr) == (2, True)
    assert (tmp_path / "mine" / "scratch").is_dir()
