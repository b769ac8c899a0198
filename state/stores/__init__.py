"""The stores: one contract, several engines."""
