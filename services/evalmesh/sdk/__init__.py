"""The client library: `Client` for scripts, `AsyncClient` for services. Errors are those of `evalmesh.domain.errors`.

from evalmesh.sdk import Client

with Client("127.0.0.1:9090") as client:
    run = client.create_run(spec)
    for update in client.watch_run(run):
        print(update.state)
    print(client.report(run))
"""

from evalmesh.sdk.aio import AsyncClient, ImportedCompletions
from evalmesh.sdk.client import Client

__all__ = ["AsyncClient", "Client", "ImportedCompletions"]
