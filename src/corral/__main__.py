"""``python -m corral`` is the ``corral`` command."""

from corral.faces.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
