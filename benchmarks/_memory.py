"""Print the most memory that a training step takes, in a process of its own (Linux).

python benchmarks/_memory.py ours ResNet-18 numpy
python benchmarks/_memory.py theirs ResNet-18 contiguous
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

PROCESS = Path("/proc/self")


def peak_memory(who: str, network: str, setting: str) -> dict[str, int] | None:
    """Bytes of "ours" or "theirs": of a step, and of the whole process; None if not on Linux.

    `setting` is our engine, "" for xpcnn's own choice, or PyTorch's memory layout.
    """
    if not (PROCESS / "clear_refs").exists():
        return None
    call = [sys.executable, __file__, who, network, setting]
    as_usual = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, env=as_usual)
    return json.loads(done.stdout)


def main(who: str, name: str, setting: str) -> None:
    """Take some steps, and measure the next."""
    from _networks import NETWORKS, OurLearner

    import xpcnn

    if who == "ours":
        learner = OurLearner(NETWORKS[name])
    else:
        from _rows import LAYOUTS
        from _training import TheirLearner

        learner = TheirLearner(NETWORKS[name], LAYOUTS[setting])
    with xpcnn.use(setting) if who == "ours" and setting else nullcontext():
        learner.step()
        learner.step()
        before = _settle()
        learner.step()
    most = _status("VmHWM")
    print(json.dumps({"step": most - before, "process": most}))


def _settle() -> int:
    """Give free memory back, forget the peak, and tell what is resident."""
    ctypes.CDLL(None).malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(f"{PROCESS / 'status'} tells no {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
