"""Bundles executed: queues of devices and the runtimes behind them."""
