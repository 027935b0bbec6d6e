"""Stand-ins of SLURM's commands on PATH that really start the tasks of an array job here.

sbatch starts a process for each task, srun runs a task's command with its logs, sacct tells states
by the processes' ends, scontrol requeue starts a task again, scancel ends it.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

_STAND_IN = """#!{python}
import os, re, signal, subprocess, sys
from pathlib import Path

PLAY = Path({play!r})
NAME, ARGUMENTS = Path(sys.argv[0]).name, sys.argv[1:]
JOB = "4242"


def get_end(index):
    # of the newest start: a requeued task is running again although its first start has ended
    requeued = PLAY / "requeued"
    starts = requeued.read_text().splitlines().count(str(index)) if requeued.exists() else 0
    return PLAY / f"end-{{index}}-{{starts}}"


def start(index):
    environment = dict(os.environ, SLURM_JOB_ID=str(9000 + index), SLURM_ARRAY_JOB_ID=JOB,
                       SLURM_ARRAY_TASK_ID=str(index), SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1",
                       SLURM_NODEID="0", SLURM_PROCID="0", SLURM_LOCALID="0")
    keep = "echo $? > " + str(get_end(index))
    subprocess.Popen(["bash", "-c", f"bash {{PLAY / 'script'}}; {{keep}}"], env=environment,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def count_tasks():
    return int(re.search(r"--array=0-(\\d+)", (PLAY / "script").read_text()).group(1)) + 1


if NAME == "sbatch":
    (PLAY / "script").write_text(Path(ARGUMENTS[-1]).read_text())
    for index in range(count_tasks()):
        start(index)
    print(f"Submitted batch job {{JOB}}")
elif NAME == "srun":
    files, rest = {{}}, ARGUMENTS
    while rest[0].startswith("--"):
        if rest[0] in ("--output", "--error"):
            files[rest[0]], rest = rest[1], rest[1:]
        rest = rest[1:]
    index = os.environ["SLURM_ARRAY_TASK_ID"]
    opened = [open(re.sub("%A", JOB, re.sub("%a", index, files[key].replace("%t", "0"))), "a")
              for key in ("--output", "--error")]
    (PLAY / f"task-{{index}}").write_text(str(os.getpid()))
    os.dup2(opened[0].fileno(), 1)
    os.dup2(opened[1].fileno(), 2)
    os.execvp(rest[0], rest)
elif NAME == "sacct":
    print("JobID|State|NodeList")
    for index in range(count_tasks()):
        end = get_end(index)
        code = end.read_text().strip() if end.exists() else None
        state = "RUNNING" if code is None else "COMPLETED" if code == "0" else "FAILED"
        print(f"{{JOB}}_{{index}}|{{state}}|here")
elif NAME == "scontrol":
    index = int(ARGUMENTS[1].partition("_")[2])
    with (PLAY / "requeued").open("a") as file:
        file.write(f"{{index}}\\n")
    start(index)
elif NAME == "scancel":
    index = ARGUMENTS[0].partition("_")[2]
    os.kill(int((PLAY / f"task-{{index}}").read_text()), signal.SIGKILL)
"""


def make_slurm(folder: Path) -> str:
    """Write the stand-ins into a folder; return the PATH that finds them."""
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        path = folder / name
        path.write_text(_STAND_IN.format(python=sys.executable, play=str(folder)), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
