"""The rules. Verbs over plain things; the verb owns the commit, except in the ledger, which never commits."""
