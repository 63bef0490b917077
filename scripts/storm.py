"""A storm at a gateway before a simulated router: ``python scripts/storm.py 20000``; exits 1 when anything went wrong.

The same as ``tests/gateway/test_storm.py``, with as many requests as are wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.gateway.test_storm import storm  # noqa: E402 - only now can it be found


def main() -> int:
    """Run it and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=int, nargs="?", default=20_000)
    parser.add_argument("--clients", type=int, default=64, help="how many ask at once")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        found = asyncio.run(storm(Path(folder), args.requests, args.clients, args.seed))
    print(f"{args.requests} requests in {time.monotonic() - begun:.1f} s: {found}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
