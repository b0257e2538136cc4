"""What a GPU makes of the networks, in one run of under ten minutes.

    OMP_NUM_THREADS=1 python benchmarks/gpu.py [--device cuda] [--batch 32 256 4096] [--seconds 540] [--out gpu]

Training steps and predictions of slots and sets as `ode_training_step.py` has them; then the network of passages:
states a second from coefficients to permeate, and a step of a stack as `answer_network.py` teaches it. Every part
writes a file of its own to the folder; where the time runs out, what was written stays. Each line says its batch, so
that the same command with `--device cpu` is the column beside it. It was run with `--device cpu` only."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from answer_network import BATCH, WIDTH, Examples, step_of
from ode_training_step import least

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.inference.answer import load_answer
from ion_ode.inference.network import PassageNetwork, Seen, load_network, look
from ion_ode.store import atomic_write, provenance
from ion_ode.training.soap import Soap

HERE = Path(__file__).parent
FIELDS = ("slots", "set")


def states(device: str, sizes, n_ions: int = 4) -> list[dict]:
    "From coefficients to permeate, by torch: the compiled path is for processors."
    draw = torch.Generator().manual_seed(0)
    net, rows = load_network()[0].to(device), []
    z = torch.tensor([1.0, 2.0, -1.0, -2.0])[:, None]
    for n in sizes:
        u = lambda low, high, n=n: low + (high - low) * torch.rand(n_ions, n, generator=draw)
        c = u(1, 40)
        c[0] += c[2] + 2 * c[3]
        c[2] = (z * c)[[0, 1, 3]].sum(0)
        given = [z.expand(n_ions, n), c, -u(0, 3), 10 ** u(-3, 1), u(0.3, 1.2), 40 * u(-1, 1)[0], 10 ** u(-6, 0)]
        given = [v.to(device) for v in given]
        with torch.inference_mode():
            s = least(lambda given=given: net(look(*given)), device)
        rows.append({"part": "states", "batch": n, "per_s": n / s})
        print(f"{n:>9,} problems of {n_ions} ions: {n / s:,.0f} a second", flush=True)
    return rows


def steps(device: str, members, batches) -> list[dict]:
    "A step of a stack of networks on the same states."
    (seen, wanted, there), *_ = Examples(range(40), load_answer("nf270")).bins
    rows, draw = [], torch.Generator().manual_seed(0)
    for n in batches:
        i = torch.randint(wanted.shape[1], (n,), generator=draw)
        batch = Seen(*(v[..., i].to(device) for v in seen)), wanted[:, i].to(device), there[:, i].to(device)
        for k in members:
            nets = Ensemble([PassageNetwork(WIDTH) for _ in range(k)]).to(device)
            soap = Soap(nets.params.values(), lr=1e-4)
            ms = 1e3 * least(lambda nets=nets, soap=soap, batch=batch: step_of(soap, nets, batch), device)
            rows.append({"part": "step", "batch": n, "members": k, "ms_a_member": ms / k})
            print(f"{n:>9,} states, {k} members: {ms / k:.2f} ms a step and member", flush=True)
    return rows


def main():
    of = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    of.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    of.add_argument("--batch", type=int, nargs="+", default=[32, 256, 4096], help="curves of a training step")
    of.add_argument("--seconds", type=float, default=540.0, help="of the whole run")
    of.add_argument("--out", type=Path, default=Path("gpu"), help="folder")
    of.add_argument("--only", choices=("passages", *FIELDS))
    a = of.parse_args()
    if a.device == "cuda" and not torch.cuda.is_available():
        of.error("this PyTorch sees no GPU; give --device cpu, or install a build for your driver")
    torch.set_num_threads(1)
    began = time.monotonic()
    a.out.mkdir(parents=True, exist_ok=True)
    if a.only in (None, "passages"):
        rows = states(a.device, (4096, 65_536, 1_048_576)) + steps(a.device, (1, 8, 64), (BATCH, 8 * BATCH))
        text = json.dumps({"rows": rows} | provenance(device=a.device), indent=1)
        atomic_write(a.out / "passages.json", text + "\n")
    for field in [f for f in FIELDS if a.only in (None, f)]:
        command = [sys.executable, HERE / "ode_training_step.py", "--field", field, "--device", a.device, "--batch"]
        command = [*command, *map(str, a.batch), "--out", a.out / f"{field}.json"]
        left = a.seconds - (time.monotonic() - began)
        try:
            subprocess.run(command, check=True, timeout=max(left, 1))
        except subprocess.TimeoutExpired:
            print(f"{field}: {a.seconds:.0f} s are over; {a.out} has what was measured", flush=True)


if __name__ == "__main__":
    main()
