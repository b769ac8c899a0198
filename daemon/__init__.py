"""The process: settings, wiring, root tasks, the sync, the sources and the encoders."""

__version__ = "0.1.0"
