"""A data folder that an older Eunoe left in the middle of its work is opened and finished.

The folder was written by commit 7481508: 30 memories processed, then, with enricher, embedder and
syncer frozen, 30 more stored, five of the first changed, one deleted, a re-embedding requested
and an entry that is no job added to the enrich stream; then every process was killed. What is
in it are wire formats (streams, ledgers, leases, graph, points), so a failure here means that
an upgrade would lose what is in flight.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.chaos.finished import finished
from tests.support.stack.stack import Client, running
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos
FOLDER = Path(__file__).parents[1] / "fixtures" / "data-folder-of-7481508.tar.xz"
RUN = "ac69b96c-af24-4612-9a23-78975495e6ec"
ADMIN = {"ADMIN_API_TOKEN": "admin"}
HEADERS = {"X-Admin-Token": ADMIN["ADMIN_API_TOKEN"]}


async def test_the_work_in_flight_of_an_older_version_is_finished(tmp_path: Path) -> None:
    with tarfile.open(FOLDER) as archive:
        archive.extractall(tmp_path / "data", filter="data")
    async with running(tmp_path / "data", ADMIN) as stack, stack.client() as client:
        stores = stack.stores()
        found = await stores.rows("MATCH (m:Memory) RETURN m.id")
        ids = [str(row[0]) for row in found]
        assert len(ids) == 59
        await finished(stack, ids)
        await wait_until(lambda: run_complete(client), "the re-embedding was finished")
        best = await client.recalled("Who found a moth in Harvard?", limit=1)
        assert "Grace Hopper" in (await client.memory(best[0]))["content"]
        assert await stores.number("MATCH (:Memory)-[r:LEADS_TO]->(:Memory) RETURN count(r)") == 1
        dead = await client.ask("GET", "/admin/dead?stream=enrich", headers=HEADERS)
        assert [job["reason"] for job in dead.body["dead"]] == ["malformed"]


async def run_complete(client: Client) -> bool:
    run = await client.ask("GET", f"/admin/runs/{RUN}", headers=HEADERS)
    assert run.status == 200, run
    return bool(run.body["run"]["state"] == "complete")
