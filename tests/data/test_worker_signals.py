"""Processes that load data outlive the signals that are meant for their run, and end when it says so."""

import signal
import subprocess
import sys

import pytest

# In a process of its own: other tests may have left threads in this one, which a child would get signals in.
SCRIPT = """
import multiprocessing, os, signal, subprocess, time
from ntp.data.worker_signals import leave_signals_to_the_run

def work(ready):
    leave_signals_to_the_run(0)
    ready.set()
    time.sleep(300)

context = multiprocessing.get_context("fork")
ready = context.Event()
process = context.Process(target=work, args=(ready,), daemon=True)
process.start()
assert ready.wait(60)
for name in ("INT", "USR1", "TERM"):
    subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
os.kill(process.pid, signal.SIGINT)
assert process.is_alive()
for _ in range(600):  # signals that wait for each other become one
    process.terminate()
    process.join(timeout=0.1)
    if not process.is_alive():
        break
print(process.exitcode)
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs a system that tells who sent a signal")
def test_signals_of_others_are_ignored_and_that_of_the_parent_is_obeyed():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"  # it went by itself; by a signal the status would be negative
