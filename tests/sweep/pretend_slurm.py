"""``sbatch``, ``srun``, ``squeue`` or ``scancel``, by the file's name, of a SLURM whose nodes are all this machine.

Its state is a folder, ``PRETEND_SLURM``: a file for each job, empty while it waits, then with the id of its process.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(os.environ["PRETEND_SLURM"])
HELD = HERE / "held"  # while it exists, no job begins


def sbatch(path):
    script = Path(path).read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE))
    first = 100 * (1 + len(list(HERE.glob("*.sh"))))
    (HERE / f"{first}.sh").write_text(script)
    last = asked.get("array", "0-0").split("%")[0].split("-")[1]
    for index in range(int(last) + 1):
        array = {"SLURM_ARRAY_JOB_ID": str(first), "SLURM_ARRAY_TASK_ID": str(index)} if "array" in asked else {}
        name = f"{first}_{index}" if array else str(first)
        tasks = int(asked["nodes"]) * int(asked["ntasks-per-node"])
        environment = (
            os.environ
            | array
            | {
                "SLURM_JOB_ID": str(first + index),
                "SLURM_JOB_NAME": asked["job-name"],
                "SLURM_JOB_NUM_NODES": asked["nodes"],
                "SLURM_JOB_NODELIST": "localhost",
                "SLURM_NTASKS": str(tasks),
                "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"],
            }
        )
        process = "" if HELD.exists() else start(["bash", path], environment).pid
        (HERE / f"{name}.job").write_text(str(process))
    print(f"Submitted batch job {first}")


def srun(*arguments):
    command = list(arguments)
    output = ""
    while command[0].startswith("-"):
        option = command.pop(0)
        if option == "--output":
            output = command.pop(0)
    environment, tasks = dict(os.environ), []
    array, element = environment.get("SLURM_ARRAY_JOB_ID", ""), environment.get("SLURM_ARRAY_TASK_ID", "")
    job = f"{array}_{element}" if array else environment["SLURM_JOB_ID"]
    output = output.replace("%A_%a", job).replace("%j", job)
    each = int(environment["SLURM_NTASKS_PER_NODE"])
    for rank in range(int(environment["SLURM_NTASKS"])):
        own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank % each, "SLURM_NODEID": rank // each}
        with open(output.replace("%t", str(rank)), "a") as file:
            tasks.append(start(command, environment | {name: str(value) for name, value in own.items()}, file))
    (HERE / f"{job}.tasks").write_text(" ".join(str(task.pid) for task in tasks))
    sys.exit(max(task.wait() for task in tasks))


def squeue(*_):
    with open(HERE / "asked", "a") as file:
        file.write("squeue\n")
    for job in HERE.glob("*.job"):
        if is_waiting(job) or is_alive(int(job.read_text())):
            print(job.stem)


def scancel(*arguments):
    state = next((one.removeprefix("--state=") for one in arguments if one.startswith("--state=")), None)
    for name in (one for one in arguments if not one.startswith("-")):
        job, tasks = HERE / f"{name}.job", HERE / f"{name}.tasks"
        if is_waiting(job) and state in (None, "PENDING"):
            job.unlink()
        elif tasks.exists() and state in (None, "RUNNING"):
            for pid in tasks.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)


def start(command, environment, output=None):
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output or subprocess.DEVNULL,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def is_waiting(job):
    return job.exists() and not job.read_text()


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](*sys.argv[1:])
