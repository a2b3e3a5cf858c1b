"""`python bench/run.py`: the same as `python -m bench`, from any directory. The story begins in `__main__.py`."""

import runpy
import sys
from pathlib import Path

# Python put bench/ first on the path: its modules would be found as top-level ones, a second time.
sys.path[0] = str(Path(__file__).resolve().parent.parent)
runpy.run_module("bench", run_name="__main__", alter_sys=True)
