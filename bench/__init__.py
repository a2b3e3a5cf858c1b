"""The benchmarks: what a request and a chunk cost here, in nginx and in LiteLLM, measured side by side in one run.

`make bench` or `python bench/run.py`; `docs/benchmarks.md` tells the method. Knows the portal by its commands and its
HTTP doors only; `populate.py`, which runs inside the portal's own environment, is the one exception.
"""
