"""The stack of processes: started whole, kept whole, stopped whole."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oms.embedded import postgres, process, redis
from oms.embedded.layout import Layout, layout_of
from oms.environment import CHECKOUT, Environment, read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.processes import Process, Program, remember, running, stop_leftovers
from oms.supervisor.stack import Stack, StackFailed, with_free_ports
from tests.conftest import home_in
from tests.stacks import copy
from tests.waiting import until


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with home_in(tmp_path_factory.mktemp("stack")) as home:
        named = {"OMS_HOME": str(home), "OMS_TARGET_QUEUES": "crm"}
        yield with_free_ports(read_environment(named))


class Observed(Stack):
    """A stack that writes down what each process found when it was started first."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.found_sandbox: dict[str, bool] = {}

    def _launch(self, program: Program, log: Path) -> Process:
        self.found_sandbox.setdefault(program.name, sandbox_answers(self.environment))
        return super()._launch(program, log)


@pytest.fixture(scope="module")
def stack(environment: Environment, stack_model: Layout) -> Iterator[Observed]:
    copy(stack_model, layout_of(environment.home))
    stack = Observed(environment)
    try:
        stack.start_servers()
        prepare(stack, say=lambda _: None)
        stack.start(without=("flower",))
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
        stack.stop_servers()


def comes_back(stack: Stack, name: str, killed: int | None) -> Callable[[], bool]:
    def look() -> bool:
        stack.watch()
        return stack.pid(name) not in (None, killed)

    return look


def web_answers(stack: Stack) -> bool:
    return answers(stack.environment.web_port, "/api/v1/health")


def sandbox_answers(environment: Environment) -> bool:
    return answers(environment.sandbox_port, "/healthz")


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_target_systems_answer_before_whoever_talks_to_them_starts(stack: Observed) -> None:
    """A command that may be sent once only is lost to a person when nobody listens yet."""
    assert not stack.found_sandbox.pop("sandbox")
    assert {"web", "orchestration", "worker-crm"} <= set(stack.found_sandbox)
    assert [name for name, found in stack.found_sandbox.items() if not found] == []


@pytest.mark.parametrize("name", ["worker-crm", "orchestration", "beat", "sandbox", "web"])
def test_a_killed_process_is_started_again(stack: Stack, name: str) -> None:
    killed = stack.pid(name)
    stack.kill(name, signal.SIGKILL)
    until(comes_back(stack, name, killed))
    until(lambda: web_answers(stack))


def test_a_killed_preloaded_process_and_its_forks_are_started_again(stack: Stack) -> None:
    record = stack.layout.run / "preloaded.json"
    preloaded, worker = running(record), stack.pid("worker-crm")
    assert preloaded is not None
    os.kill(preloaded, signal.SIGKILL)
    until(comes_back(stack, "worker-crm", worker))
    until(comes_back(stack, "web", None))
    assert running(record) not in (None, preloaded)
    until(lambda: web_answers(stack))


def test_restarting_replaces_the_process(stack: Stack) -> None:
    before = stack.pid("worker-crm")
    stack.restart("worker-crm")
    assert stack.pid("worker-crm") not in (None, before)


def test_killed_servers_are_started_again(stack: Stack) -> None:
    for module in (postgres, redis):
        pid = module.running_pid(stack.layout)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    until(lambda: postgres.running_pid(stack.layout) is None)
    stack.watch()
    assert postgres.answers(stack.layout)
    assert redis.answers(stack.layout)


def test_a_second_supervisor_of_the_same_home_is_refused(stack: Stack) -> None:
    with pytest.raises(StackFailed, match="Another stack runs"):
        Stack(with_free_ports(stack.environment)).start_servers()
    assert web_answers(stack)


def test_a_command_gets_the_servers_and_its_exit_code_is_kept(stack: Stack) -> None:
    done = manage(
        stack.environment,
        "stack",
        "exec",
        "--no-migrate",
        "--",
        sys.executable,
        "-c",
        "import os, psycopg, sys\n"
        "psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT 1 FROM oms_order')\n"
        "sys.exit(7)",
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert postgres.answers(stack.layout)


def test_a_taken_port_is_named_before_anything_starts(home: Path) -> None:
    environment = with_free_ports(read_environment({"OMS_HOME": str(home)}))
    with socket.create_server(("127.0.0.1", environment.flower_port)):
        with pytest.raises(StackFailed, match=f"{environment.flower_port}.*OMS_FLOWER_PORT"):
            Stack(environment).start_servers()
    assert postgres.running_pid(layout_of(home)) is None


def test_a_command_without_servers_says_what_to_do(home: Path) -> None:
    done = manage(read_environment({"OMS_HOME": str(home)}), "showmigrations")
    assert done.returncode == 1
    assert "is not running" in done.stderr
    assert "make up" in done.stderr


def test_after_a_killed_supervisor_the_next_one_finds_everything(home: Path) -> None:
    environment = with_free_ports(read_environment({"OMS_HOME": str(home)}))
    layout = layout_of(home)
    supervisor = (
        "import os, signal\n"
        "from dataclasses import replace\n"
        "from oms.environment import read_environment\n"
        "from oms.supervisor.stack import Stack\n"
        "stack = Stack(read_environment())\n"
        "stack.start_servers()\n"
        "stack.start(without=['beat', 'flower', 'orchestration'])\n"
        "stack.wait_ready()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", supervisor], cwd=CHECKOUT, env=plain(environment), check=False
    )
    assert ended.returncode == -signal.SIGKILL
    left = {path.stem: json.loads(path.read_text())["pid"] for path in layout.run.glob("*.json")}
    assert {"web", "sandbox", "preloaded", "worker-crm"} <= set(left)
    server = postgres.running_pid(layout)
    assert server is not None
    sandbox = left["sandbox"]
    # Who has a command in hand finishes it, and finds the target system that it is for.
    until(lambda: [pid for pid in left.values() if process.is_alive(pid)] == [sandbox])
    assert sandbox_answers(environment)
    successor = Stack(environment)
    try:
        successor.start_servers()
        assert [name for name, pid in left.items() if process.is_alive(pid)] == []
        assert postgres.running_pid(layout) == server
    finally:
        successor.stop_servers()
    assert postgres.running_pid(layout) is None


def test_of_what_is_left_the_target_systems_end_last(tmp_path: Path) -> None:
    said = tmp_path / "said"
    target = subprocess.Popen(["sleep", "600"])
    worker = talking_to(target.pid, said=said)
    try:
        until(said.exists)
        remember(tmp_path / "sandbox.json", target.pid, outside=True)
        remember(tmp_path / "worker.json", worker.pid, outside=False)
        assert stop_leftovers(tmp_path) == ["sandbox", "worker"]
    finally:
        for left in (worker, target):
            left.kill()
            left.wait()
    assert said.read_text() == "found it"


def talking_to(pid: int, *, said: Path) -> subprocess.Popen[bytes]:
    """A process that, told to end, looks for that one first; `said` is there once it listens."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "said, pid = Path(sys.argv[1]), int(sys.argv[2])\n"
        "def end(*_):\n"
        "    os.kill(pid, 0)\n"
        "    said.write_text('found it')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "said.touch()\n"
        "signal.pause()\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(said), str(pid)])


def test_a_reused_process_id_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "web.json"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        remember(record, bystander.pid, outside=False)
        known = json.loads(record.read_text())
        record.write_text(json.dumps({**known, "started": known["started"] - 1}))
        assert stop_leftovers(tmp_path) == []
        assert bystander.poll() is None
        assert not record.exists()
        bystander.kill()


def plain(environment: Environment) -> dict[str, str]:
    """Only what names this stack, as a user's shell would have it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "DJANGO_SETTINGS_MODULE": "oms.settings",
        "OMS_HOME": str(environment.home),
        "OMS_WEB_PORT": str(environment.web_port),
        "OMS_FLOWER_PORT": str(environment.flower_port),
        "OMS_SANDBOX_PORT": str(environment.sandbox_port),
    }


def manage(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env=plain(environment),
        capture_output=True,
        text=True,
        check=False,
    )
