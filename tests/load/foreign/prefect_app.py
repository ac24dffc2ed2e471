"""The same eight steps as a Prefect flow. Run by Prefect's own interpreter.

    python prefect_app.py    carries flows out, as told by lines of JSON, and answers by lines

Flows run in this process, many at once: a worker that starts a process per flow is slower still.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from prefect import flow, task
from prefect.client.orchestration import get_client


@task
async def step(number: int) -> int:
    return number


@flow(name="order", retries=0, log_prints=False)
async def order() -> int:
    """T1 ∥ T2, then T3 ∥ T4, then T5 → T6 → T7 → T8."""
    done = [*await asyncio.gather(step(1), step(2)), *await asyncio.gather(step(3), step(4))]
    for number in range(5, 9):
        done.append(await step(number))
    return len(done)


async def main() -> None:
    _answer({"ready": True})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        if "run" in asked:
            done = await asyncio.gather(*(order() for _ in range(asked["run"])))
            _answer({"steps": sum(done)})
        else:
            _answer(await _counted())


async def _counted() -> dict[str, int]:
    """By the server's own books."""
    async with get_client() as client:
        found: dict[str, Any] = {}
        for name in ("flow_runs", "task_runs"):
            answer = await client.request(
                "POST",
                f"/{name}/count",
                json={name: {"state": {"type": {"any_": ["COMPLETED"]}}}},
            )
            found[name] = answer.json()
        return found


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
