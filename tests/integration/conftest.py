"""Makes the helpers of this folder, and those of the monitoring tests, importable."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "monitoring"):
    sys.path.insert(0, str(folder))
