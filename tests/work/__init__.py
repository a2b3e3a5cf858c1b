"""Work and messages with real processes: web, worker, scheduler, store, database, and the phones they end on."""
