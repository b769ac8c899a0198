"""The folder of pictures as a source."""
