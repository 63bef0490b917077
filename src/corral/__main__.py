"""``python -m corral`` is the ``corral`` command."""

from corral.faces.cli import program

if __name__ == "__main__":
    program()
