from transfer_stores import directory, open_store, source

__all__ = ["directory", "open_store", "source"]
