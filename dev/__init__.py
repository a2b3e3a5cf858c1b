"""The developer's side of the project: set-up on demand, `make run`, the checks. The product knows nothing of it."""
