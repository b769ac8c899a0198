"""What turns pictures and texts into vectors."""
