"""What only shows between real processes: many workers on one wallet, workers killed, databases that go away."""
