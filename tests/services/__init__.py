"""Real servers for the tests: private MariaDB, PostgreSQL, Redis, gunicorn, sandbox, each started at its first use.

They live in temporary folders on unix sockets or free ports, are ended by process id, and touch nothing of the
system's.
"""
