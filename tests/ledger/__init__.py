"""The ledger alone: what it books, what it refuses, what its check finds, and its till under threads and faults."""
