"""The developer's side: `make run` and what it stands on."""
