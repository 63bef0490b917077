"""Entry of ``python -m corral.sim``."""

from __future__ import annotations

import sys

from corral.sim.program import main

if __name__ == "__main__":
    sys.exit(main())
