"""Papers: numbers under a crowd, what stands on them for ever, statements to the last milli-credit, PDF, CSV."""
