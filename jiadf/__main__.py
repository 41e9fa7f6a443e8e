"""``python -m jiadf`` and ``accelerate launch -m jiadf`` are the ``jiadf`` command."""

from jiadf.cli import app

app()
