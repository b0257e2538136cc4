"""Every version that the checks were made with, in requirements.lock: python tools/lock.py (needs uv and a package
index)

The lock holds for Python 3.11.5 and newer on every system. It leaves out torch and its CUDA libraries, which the
Makefile installs first (TORCH=...), and names no index. `make` installs with it as a constraint (LOCK= to do without).
"""

import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
OF_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def wanted() -> list[str]:
    "What settings.ini asks for, extras included."
    c = ConfigParser(delimiters=["="])
    c.read(ROOT / "settings.ini", encoding="utf-8")
    s = c["DEFAULT"]
    return sorted({r for k in s if k.endswith("requirements") for r in s[k].split()})


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "asked.in", Path(folder) / "found.txt"
        asked.write_text("\n".join(wanted()) + "\n", encoding="utf-8")
        options = ["--universal", "--python-version", "3.11.5", "--no-annotate", "--no-header", "--no-emit-index-url"]
        uv = [sys.executable, "-m", "uv", "pip", "compile", "-q"]
        done = subprocess.run([*uv, asked, *options, "-o", found, *sys.argv[1:]])
        if done.returncode:
            return done.returncode
        lines = [x for x in found.read_text(encoding="utf-8").splitlines() if "==" in x and not OF_TORCH.match(x)]
    head = "# Made by tools/lock.py; torch and its libraries are the Makefile's\n"
    LOCK.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} versions in {LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
