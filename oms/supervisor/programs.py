"""What a stack consists of: the programs, and the environment that they get."""

from __future__ import annotations

import sys
from dataclasses import replace

from oms.embedded.layout import Layout
from oms.environment import CHECKOUT, ORCHESTRATION_QUEUE, Environment
from oms.supervisor.processes import Program

_ORCHESTRATION_THREADS = 4
_TARGET_THREADS = 8
"""Messages handled at once: as many target systems of one queue may hang before another one of
that queue waits. What is sent at once is a matter of each target's sender slots."""
_IDLE_CONNECTION_SECONDS = 75
"""How long a client's connection is kept open between two requests. Longer than the minute for
which clients and proxies commonly keep theirs: the side that lets go first is never hit by a
request on a connection that the other has just closed, and so never sees it fail for nothing."""


def variables(environment: Environment) -> dict[str, str]:
    """Everything that was read, as its variables, so that every process reads the same."""
    secrets = {
        "DATABASE_URL": environment.database_url,
        "DATABASE_OWNER_URL": environment.database_owner_url,
        "REDIS_URL": environment.redis_url,
        "OMS_SECRET_KEY": environment.secret_key,
        "OMS_AUDIT_KEY": ",".join(environment.audit_keys),
        "OMS_FLOWER_PASSWORD": environment.flower_password,
        **environment.callback_secrets.by_variable,
    }
    return {
        **secrets,
        # Their content is passed on; a second source for the same thing would be refused.
        **{f"{name}_FILE": "" for name in secrets},
        "DJANGO_SETTINGS_MODULE": "oms.settings",
        "OMS_HOME": str(environment.home),
        "OMS_BIND": environment.bind,
        "OMS_WEB_PORT": str(environment.web_port),
        "OMS_FLOWER_PORT": str(environment.flower_port),
        "OMS_FLOWER_URL": environment.flower_url,
        "OMS_SANDBOX_PORT": str(environment.sandbox_port),
        "OMS_SANDBOX_URL": environment.sandbox_url,
        "OMS_PUBLIC_URL": environment.public_url,
        "OMS_TARGET_QUEUES": ",".join(environment.target_queues),
        "OMS_FAST_PATH": "on" if environment.fast_path else "off",
        "OMS_WEBHOOK_ALLOWED_ORIGINS": ",".join(environment.webhook_allowed_origins),
        "OMS_SCANNER": "on" if environment.scanner else "off",
        "OMS_SCHEDULES": str(environment.schedules or "off"),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
    }


def programs(environment: Environment, *, home: Layout) -> list[Program]:
    """Web, workers, beat, replies, Flower and the sandbox, in the order of their start."""
    shared = variables(environment)
    sandbox = Program(
        name="sandbox",
        command=[
            *(sys.executable, "-m", "adapters.sandbox"),
            *("--host", environment.bind),
            *("--port", str(environment.sandbox_port)),
            *("--ledger", str(environment.home / "sandbox.sqlite3")),
        ],
        variables={**shared, "OMS_SANDBOX_BROKER_URL": environment.redis_url},
        outside=True,
        health=(environment.sandbox_port, "/healthz"),
    )
    web = Program(
        name="web",
        command=[
            *("gunicorn", "oms.wsgi:application"),
            *("--bind", f"{environment.bind}:{environment.web_port}"),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
            *("--graceful-timeout", "10", "--access-logfile", "-"),
            *("--keep-alive", f"{_IDLE_CONNECTION_SECONDS}"),
            *("--worker-tmp-dir", str(home.run), "--no-control-socket"),
        ],
        variables=shared,
        health=(environment.web_port, "/api/v1/health"),
    )
    beat = Program(
        name="beat",
        command=["celery", "beat", "--loglevel", "WARNING", "--pidfile", ""],
        variables=shared,
    )
    # Idle until a target system is reached by messages: an operator adds one while it runs.
    replies = Program(name="replies", command=["manage.py", "replies"], variables=shared)
    flower = Program(
        name="flower",
        command=[
            *("celery", "flower", "--read_only=True"),
            f"--address={environment.bind}",
            f"--port={environment.flower_port}",
        ],
        # Not an argument: those are for every user of the machine to see.
        variables={**shared, "FLOWER_BASIC_AUTH": f"admin:{environment.flower_password}"},
        health=(environment.flower_port, "/healthcheck"),
    )
    workers = [
        _worker("orchestration", ORCHESTRATION_QUEUE, _ORCHESTRATION_THREADS),
        *(
            _worker(f"worker-{queue}", queue, _TARGET_THREADS)
            for queue in environment.target_queues
        ),
    ]
    started = [
        *(sandbox, web, *(replace(worker, variables=shared) for worker in workers)),
        *(beat, replies),
    ]
    # Without a password it would show every task to everybody.
    if environment.flower_password:
        started.append(flower)
    # The sandbox shares no code with the engine, as real target systems share none.
    return [replace(program, preloaded=not program.outside) for program in started]


def _worker(name: str, queue: str, threads: int) -> Program:
    return Program(
        name=name,
        command=[
            *("celery", "worker"),
            *("--queues", queue),
            *("--hostname", f"{name}@%h"),
            *("--pool", "threads", "--concurrency", str(threads)),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        ],
        variables={},
    )
