"""``python -m deepfake`` is the ``deepfake`` command."""

from .commands.cli import run

if __name__ == "__main__":
    run()
