"""The gateway: its pieces alone, then whole over HTTP, on both transports."""
