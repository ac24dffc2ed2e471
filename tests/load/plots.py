"""Plots beside the results, drawn in the competitors' environment: we need no matplotlib."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.load.parts import Run


def draw(*, folder: Path, run: Run) -> None:
    """Draw what the results hold; a plot that fails loses no figures."""
    from tests.load import competitors

    script = Path(__file__).with_name("foreign") / "drawing.py"
    python = competitors.python_of("competitors", run=run)
    done = subprocess.run([python, script, folder], check=False)
    if done.returncode:
        run.say("The plots could not be drawn; see above. The figures are there.")
