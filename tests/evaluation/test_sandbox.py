"""Hostile programs, really run."""

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.evaluation.sandbox.host import Limits, NoNamespaces, Verdict, refusal, try_solution
from ntp.evaluation.sandbox.values import Opaque, decode, encode

RIGHT = "def f(x):\n    return x + 1\n"
TEST = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(-5) == -4\n"
LIMITS = Limits(cpu_seconds=1, memory_bytes=256 << 20, file_bytes=1 << 20)

needs_namespaces = pytest.mark.skipif(refusal() is not None, reason="this system gives no namespaces")
both = pytest.mark.parametrize("namespaces", [pytest.param(True, marks=needs_namespaces), False])


def tried(solution: str, namespaces: bool = True, **options: Any) -> Verdict:
    problem = {"reference": RIGHT, "test": TEST, "entry_point": "f", "limits": LIMITS} | options
    return try_solution(solution, namespaces=namespaces, **problem)


def attempt(lines: str) -> str:
    """A program whose function is right, and does something else first; what goes wrong there, it keeps to itself."""
    body = "\n".join(f"        {line}" for line in lines.splitlines())
    return f"def f(x):\n    try:\n{body}\n    except BaseException:\n        pass\n    return x + 1\n"


@both
def test_a_right_solution_passes_and_a_wrong_one_fails_the_test(namespaces: bool) -> None:
    assert tried(RIGHT, namespaces) == Verdict(True, "passed")
    assert tried("def f(x):\n    return 2\n", namespaces) == Verdict(False, "wrong answer")


@both
@pytest.mark.parametrize(
    "loop",
    [
        "def f(x):\n    while True: pass\n",
        "while True: pass\n",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass\n",
    ],
    ids=["when called", "at once", "that heeds no signal"],
)
def test_an_endless_loop_ends_with_its_time(loop: str, namespaces: bool) -> None:
    assert tried(loop, namespaces) == Verdict(False, "time limit")


@needs_namespaces
def test_waiting_is_killed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "clock_seconds", 0.5)

    assert tried("import time\ndef f(x):\n    time.sleep(600)\n") == Verdict(False, "time limit")


@both
@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "import sys; sys.exit(0)", "import os; os._exit(0)"])
@pytest.mark.parametrize("where", ["at once", "when called"])
def test_ending_the_process_in_peace_is_no_pass(ending: str, where: str, namespaces: bool) -> None:
    program = ending if where == "at once" else f"def f(x):\n    {ending}\n"

    assert not tried(f"{program}\n", namespaces).passed


FORGERIES = {
    "says so on every descriptor": """
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, b'{"passed": true, "reason": "passed"}')
    except OSError:
        pass
os._exit(0)
""",
    "prints it": """
print('{"passed": true, "reason": "passed"}', flush=True)
import os
os._exit(0)
""",
    "answers with something that is equal to all": """
class Any(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def f(x): return Any()
""",
    "patches the test away": """
import builtins, sys
builtins.AssertionError = KeyboardInterrupt
sys.excepthook = lambda *_: None
class Quiet(dict):
    def __getitem__(self, name): return lambda *_: None
def f(x):
    frame = sys._getframe()
    while frame is not None:
        for name in list(frame.f_globals):
            if name in ("check", "judge", "test"):
                frame.f_globals[name] = lambda *_: None
        frame = frame.f_back
    return 0
""",
    "raises what a test may swallow": """
def f(x):
    raise AssertionError
""",
    "looks for the reference": """
import gc, sys
def f(x):
    for one in gc.get_objects():
        if isinstance(one, dict) and callable(one.get("f")) and one["f"] is not f:
            return one["f"](x)
    return sys.modules["reference"].f(x)
""",
}


@both
@pytest.mark.parametrize("how", FORGERIES)
def test_no_forged_verdict_passes(how: str, namespaces: bool) -> None:
    assert not tried(FORGERIES[how], namespaces).passed


@both
def test_memory_is_limited(namespaces: bool) -> None:
    assert tried("def f(x):\n    return len(bytearray(1 << 30)) and x + 1\n", namespaces).reason == "raised MemoryError"


@both
@pytest.mark.parametrize(
    "start",
    [
        "import os\nif os.fork() == 0: os._exit(0)",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])",
        "import os\nwhile True: os.fork()",
    ],
)
def test_neither_process_nor_thread_can_be_started(start: str, namespaces: bool) -> None:
    body = "\n".join(f"    {line}" for line in start.splitlines())
    verdict = tried(f"def f(x):\n{body}\n    return x + 1\n", namespaces)

    assert not verdict.passed
    assert verdict.reason in ("raised BlockingIOError", "raised PermissionError")


@needs_namespaces
def test_no_thread_can_be_started() -> None:
    program = "def f(x):\n    import threading\n    threading.Thread(target=print).start()\n    return x + 1\n"

    assert tried(program) == Verdict(False, "raised RuntimeError")


@both
def test_no_connection_reaches_this_machine(namespaces: bool) -> None:
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = threading.Thread(target=lambda: came.append(server.accept()), daemon=True)
        listening.start()
        port = server.getsockname()[1]
        tried(attempt(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 0.5)"), namespaces)
        assert not came
        socket.create_connection(("127.0.0.1", port)).close()
        listening.join(5)

    assert came  # whoever may connect is heard


@both
def test_files_of_others_are_neither_written_nor_deleted(namespaces: bool, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("as it was")
    tmp_path.chmod(0o777)
    kept.chmod(0o666)
    deed = "\n".join(
        f"try: {one}\nexcept BaseException: pass"
        for one in (
            "import os, shutil",
            f"open({str(kept)!r}, 'w').write('x')",
            f"open({str(tmp_path / 'new')!r}, 'w').write('x')",
            f"os.close(os.open({str(kept)!r}, os.O_TRUNC | os.O_WRONLY))",
            f"os.truncate({str(kept)!r}, 0)",
            f"os.remove({str(kept)!r})",
            f"os.rename({str(kept)!r}, {str(kept) + '2'!r})",
            f"os.mkdir({str(tmp_path / 'folder')!r})",
            f"shutil.rmtree({str(tmp_path)!r})",
            f"os.chmod({str(kept)!r}, 0)",
        )
    )

    assert tried(f"{deed}\n{RIGHT}", namespaces).passed

    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "as it was"
    assert kept.stat().st_mode & 0o777 == 0o666


@both
def test_the_processes_above_live_on(namespaces: bool) -> None:
    deed = (
        "import os, signal\n"
        f"for one in ({os.getpid()}, {os.getppid()}, os.getppid(), 0, -1):\n"
        "    try: os.kill(one, signal.SIGTERM)\n"
        "    except BaseException: pass"
    )

    tried(attempt(deed), namespaces)  # whether it passes is its own affair: it may have killed itself

    assert tried(RIGHT, namespaces).passed


@both
def test_endless_output_goes_nowhere(namespaces: bool) -> None:
    verdict = tried("import sys\ndef f(x):\n    while True: sys.stdout.write('x' * 65536)\n", namespaces)

    assert verdict == Verdict(False, "time limit")


@both
@pytest.mark.parametrize("value", ["'x' * (64 << 20)", "[0] * (1 << 20)"])
def test_an_endless_answer_is_none(value: str, namespaces: bool) -> None:
    assert not tried(f"def f(x):\n    return {value}\n", namespaces).passed


@both
def test_nothing_is_left_of_what_was_there_before(namespaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTP_SECRET", "word")
    program = (
        "import os, sys\n"
        "assert 'NTP_SECRET' not in os.environ and 'word' not in os.environ.values()\n"
        "assert sys.stdin.read() == ''\n"
        "assert not [one for one in sys.path if one.endswith('site-packages')]\n"
    )

    assert tried(program + RIGHT, namespaces).passed


@needs_namespaces
def test_of_the_file_system_only_python_and_libraries_are_seen(tmp_path: Path) -> None:
    known = {"code", "dev", "tmp", "usr", "lib", "lib32", "lib64", *_tops()}
    seen = f"import os\nassert set(os.listdir('/')) <= {known!r}\n"
    hidden = f"assert not os.path.exists({str(tmp_path)!r}) and not os.path.exists('/proc')\n"
    scratch = "open('/tmp/own', 'w').write('x')\nassert os.listdir('/tmp') == ['own']\n"

    assert tried(seen + hidden + scratch + RIGHT).passed


@needs_namespaces
def test_what_it_may_write_is_limited() -> None:
    many = "import os\nfor one in range(20): open(f'/tmp/{one}', 'wb').write(bytes(1 << 19))\n"

    assert tried("open('/tmp/a', 'wb').write(bytes(1 << 19))\n" + RIGHT).passed
    assert not tried("open('/tmp/a', 'wb').write(bytes(2 << 20))\n" + RIGHT).passed
    assert not tried(many + RIGHT).passed


@needs_namespaces
def test_no_other_process_can_be_named_and_no_privilege_used() -> None:
    program = (
        "import ctypes, os, socket\n"
        "assert os.getpid() == 1 and os.getppid() == 0\n"
        "for one in range(2, 300):\n"
        "    try: os.kill(one, 0)\n"
        "    except ProcessLookupError: continue\n"
        "    raise AssertionError(one)\n"
        "for deed in (lambda: os.setuid(0), lambda: os.chroot('/tmp'), lambda: socket.sethostname('x')):\n"
        "    try: deed()\n"
        "    except PermissionError: continue\n"
        "    raise AssertionError\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.mount(b'none', b'/', None, ctypes.c_ulong(32 | 4096), b'') == -1\n"
        "assert libc.mount(b'tmpfs', b'/tmp', b'tmpfs', ctypes.c_ulong(0), b'') == -1\n"
        "assert libc.umount2(b'/tmp', 0) == -1\n"
    )

    assert tried(program + RIGHT) == Verdict(True, "passed")


NO_NAMESPACE_STOPS = {
    "a socket of the virtual machine's host": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "a socket": "import socket; socket.socket()",
    "a namespace of users, and all privileges in it": "called(lambda libc: libc.unshare(0x10000000))",
    "memory that belongs to no process": "called(lambda libc: libc.shmget(0, 4096, 0o600))",
    "a message queue": "called(lambda libc: libc.msgget(0, 0o600))",
    "a file without a name": "os.memfd_create('x')",
    "reading another process's memory": "called(lambda libc: libc.ptrace(16, 1, 0, 0))",
    "a key that outlives it": "called(lambda libc: libc.syscall(ADD_KEY, b'user', b'name', b'x', 1, -4))",
}
CALLED = """
import ctypes, errno, os
ADD_KEY = 248 if os.uname().machine == "x86_64" else 217
def called(deed):
    libc = ctypes.CDLL(None, use_errno=True)
    assert deed(libc) == -1 and ctypes.get_errno() == errno.EPERM
    raise PermissionError
"""


@needs_namespaces
@pytest.mark.parametrize("deed", NO_NAMESPACE_STOPS)
def test_what_no_namespace_stops_the_kernel_refuses(deed: str) -> None:
    program = f"{CALLED}try: {NO_NAMESPACE_STOPS[deed]}\nexcept PermissionError: pass\nelse: raise AssertionError\n"

    assert tried(program + RIGHT) == Verdict(True, "passed")


@needs_namespaces
def test_empty_files_are_counted_too() -> None:
    assert tried("for one in range(5000): open(f'/tmp/{one}', 'w').close()\n" + RIGHT).reason == "raised OSError"


@both
def test_what_an_honest_program_imports_it_may(namespaces: bool) -> None:
    modules = "asyncio, concurrent.futures, dataclasses, hashlib, logging, re, socket, sqlite3, subprocess"

    assert tried(f"import {modules}\n{RIGHT}", namespaces).passed


@needs_namespaces
def test_an_event_loop_runs() -> None:
    body = "    async def add(): return x + 1\n    import asyncio\n    return asyncio.run(add())\n"

    assert tried(f"def f(x):\n{body}").passed


@pytest.mark.parametrize("database", ["import sqlite3; sqlite3.connect('x')", "import dbm.ndbm", "import dbm.gnu"])
def test_limits_alone_refuse_what_writes_past_open(database: str) -> None:
    assert not tried(f"{database}\n{RIGHT}", namespaces=False).passed


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="is about root alone")
@needs_namespaces
def test_root_is_nobody_inside() -> None:
    assert tried(
        "import os\nassert os.getresuid() == (65534,) * 3 and os.getgroups() in ([], [65534])\n" + RIGHT
    ).passed


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="otherwise all tests here are of this kind")
def test_who_is_not_root_shuts_it_in_too() -> None:
    system = "/usr/bin/python3"
    if not Path(system).exists():
        pytest.skip("there is no interpreter that everybody can run")
    source = Path(__file__).parents[2]
    program = (
        "import sys; sys.dont_write_bytecode = True\n"
        "if sys.version_info < (3, 11): print('old'); raise SystemExit\n"
        f"sys.path.insert(0, {str(source / 'ntp' / 'evaluation')!r})\n"
        "from sandbox.host import try_solution, refusal\n"
        "if refusal(): print('none', refusal()); raise SystemExit\n"
        "deed = 'import os\\ntry: os.fork()\\nexcept OSError: pass\\nelse: os._exit(0)\\n'\n"
        'deed += \'try: open("/usr/new", "w")\\nexcept OSError: pass\\nelse: os._exit(0)\\n\'\n'
        'deed += \'assert os.listdir("/tmp") == [] and not os.path.exists("/proc")\\n\'\n'
        f"print(try_solution(deed + {RIGHT!r}, reference={RIGHT!r}, test={TEST!r}, entry_point='f').reason)\n"
    )
    done = subprocess.run(
        [system, "-c", program], user=65534, group=65534, extra_groups=[], capture_output=True, text=True, env={}
    )
    if done.stdout.startswith(("old", "none")) or "Permission" in done.stderr:
        pytest.skip(done.stdout or done.stderr)

    assert done.stdout.strip() == "passed", done.stderr


@both
def test_the_test_sees_the_other_names_of_the_reference(namespaces: bool) -> None:
    reference = "def double(x):\n    return 2 * x\n\ndef f(x):\n    return x + 1\n"
    test = "def check(candidate):\n    assert double(candidate(1)) == 4 and f(1) == 2\n"

    assert tried("def f(x): return x + 1", namespaces, reference=reference, test=test).passed
    assert not tried("def f(x): return x\ndef double(x): return 4", namespaces, reference=reference, test=test).passed


@both
def test_exceptions_of_python_reach_the_test(namespaces: bool) -> None:
    test = "def check(candidate):\n    try: candidate(1)\n    except KeyError: return\n    assert False\n"

    assert tried("class Mine(KeyError): pass\ndef f(x): raise Mine('x')", namespaces, test=test).passed
    assert tried("def f(x): raise ValueError('x')", namespaces, test=test) == Verdict(False, "raised ValueError")


@both
@pytest.mark.parametrize(
    "problem",
    [{"reference": "def g(): pass"}, {"reference": "def f(x:"}, {"test": "import nowhere"}, {"test": "x = 1"}],
)
def test_a_problem_that_cannot_be_run_is_broken(problem: dict[str, str], namespaces: bool) -> None:
    assert tried(RIGHT, namespaces, **problem).broken


@both
def test_sets_come_in_the_same_order_every_time(namespaces: bool) -> None:
    program = "def f(x): return list(set('abcdefghijklmnop'))"
    told = Counter()
    for _ in range(3):
        test = "def check(candidate):\n    assert ''.join(candidate(1)) == %r\n"
        told[tried(program, namespaces, test=test % "".join(_order())).reason] += 1

    assert len(told) == 1


def test_a_system_without_namespaces_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntp.evaluation.sandbox.host._ask", lambda *_: {"unavailable": "unshare: not permitted"})

    with pytest.raises(NoNamespaces, match="not permitted"):
        tried(RIGHT)


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.complex_numbers(allow_nan=False),
        st.text(),
        st.binary(),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text() | st.integers(), inner),
        st.sets(st.integers() | st.text()),
        st.frozensets(st.integers()),
    ),
    max_leaves=10,
)


@given(PLAIN)
@settings(max_examples=200)
def test_plain_values_arrive_as_they_were(value: object) -> None:
    arrived = decode(encode(value))

    assert arrived == value
    assert type(arrived) is type(value)


def test_what_is_not_plain_arrives_as_nothing_that_is_equal() -> None:
    class Anything:
        def __eq__(self, other: object) -> bool:
            return True

    arrived = decode(encode(Anything()))

    assert isinstance(arrived, Opaque)
    assert arrived != 1
    assert decode(encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert next(decode(encode(iter([1, 2])))) == 1


@pytest.mark.parametrize("forged", [{"int": []}, {"list": 3}, {"exec": "1"}, [1], {}, {"float": "x"}, 3, {"dict": [1]}])
def test_what_is_no_value_is_refused(forged: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(forged)


def _order() -> list[str]:
    """Of a set in an interpreter with the hashes of the sandbox."""
    environment = {"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", "print(''.join(list(set('abcdefghijklmnop'))))"],
        capture_output=True,
        text=True,
        env=environment,
    )
    return list(done.stdout.strip())


def _tops() -> set[str]:
    """Where this interpreter and its libraries lie."""
    return {Path(one).parts[1] for one in (sys.base_prefix, sys.base_exec_prefix)}
