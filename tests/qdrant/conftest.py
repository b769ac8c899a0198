from qdrant_opening import emulator, open_store, store, time_passing, transport

__all__ = ["emulator", "open_store", "store", "time_passing", "transport"]
