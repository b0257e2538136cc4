"""What the command line costs before it answers: CPU time of whole processes, beside `import torch` alone.

    python benchmarks/import_time.py [--runs 7]

Every run is a process of its own, the commands in turn, so that a busy machine slows all of them alike; the ratio is
that of the medians. One feed at three fluxes, nothing cached between the runs but the files the system keeps in memory.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

CLI = "import sys; from ion_ode.cli import main; main(sys.argv[1:])"
ONE = ("--feed", "Na+=10,Cl-=10", "--flux", "5,10,20")
COMMANDS = {
    "import torch": ("import torch",),
    "import ion_ode": ("import ion_ode",),
    "ion-ode simulate": (CLI, "simulate", *ONE),
    "ion-ode predict": (CLI, "predict", *ONE),
}
AIM = {"ion-ode simulate": " (aim 1.2)", "ion-ode predict": " (aim 1.4)"}


def cpu_seconds(cache: str, code: str, *args: str) -> float:
    "User and system time of one process; bytecode is kept, as where a library is installed."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--runs", type=int, default=7)
    runs = p.parse_args().runs
    taken = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as cache:
        for k in range(runs + 1):  # the first round fills the system's cache of files, and the bytecode
            for name, command in COMMANDS.items():
                seconds = cpu_seconds(cache, *command)
                if k:
                    taken[name].append(seconds)
    torch = statistics.median(taken["import torch"])
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"{name:<17} {middle:6.2f} CPU-s {spread}, {middle / torch:5.2f} times import torch{AIM.get(name, '')}")


if __name__ == "__main__":
    main()
