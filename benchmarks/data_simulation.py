"""Throughput and memory of simulated sets: curves per second, bytes per curve, resident memory while streaming.

    python benchmarks/data_simulation.py [--curves 2048] [--n-flux 16 32] [--out benchmarks/data_simulation.json]

One process, one thread. Prints JSON; wall-clock numbers depend on the machine and on what else runs on it, those by
CPU second hardly on the latter. `peak_MiB` (of the process so far) is set by a chunk of 1024 curves and its
fluxes, not by how many curves are made: a set is streamed, not held.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from ion_ode.data.design import Design
from ion_ode.data.sharded import ShardedCurves
from ion_ode.data.shards import simulate_shards
from ion_ode.store import provenance


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--curves", type=int, default=2048)
    p.add_argument("--n-flux", type=int, nargs="+", default=[16, 32])
    p.add_argument("--out", type=Path)
    a = p.parse_args()
    torch.set_num_threads(1)
    rows, base = [], peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        for family in ("dspmde", "dspmde+"):
            for n_flux in a.n_flux:
                out = Path(folder) / f"{family}{n_flux}"
                design = Design(seed=0, n_flux=n_flux, family=family)
                wall, cpu = time.perf_counter(), time.process_time()
                made = simulate_shards(out, a.curves, design, shard=1024)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                size = sum(f.stat().st_size for f in out.iterdir())
                t = time.perf_counter()
                read = sum(len(b) for b in ShardedCurves(out).batches(256, seed=0))
                rows.append(
                    {
                        "family": family,
                        "n_flux": n_flux,
                        "curves": made["curves"],
                        "certified": made["curves"] / a.curves,
                        "curves_per_s": made["curves"] / wall,
                        "curves_per_cpu_s": made["curves"] / cpu,
                        "solves_per_cpu_s": made["curves"] * n_flux / cpu,
                        "bytes_per_curve": size / made["curves"],
                        "read_curves_per_s": read / (time.perf_counter() - t),
                        "peak_MiB": peak_mib(),
                    }
                )
    text = json.dumps({"import_MiB": base, "rows": rows, **provenance(seed=0)}, indent=1) + "\n"
    print(text, end="")
    if a.out:
        a.out.write_text(text)


if __name__ == "__main__":
    main()
