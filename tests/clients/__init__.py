"""The suites of clients nobody here wrote: official SDKs, frameworks, a schema fuzzer, each in its own environment."""
