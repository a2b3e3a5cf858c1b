"""The tests. Each is a claim; its docstring names the requirement it proves. Servers they need: `tests/services`."""
