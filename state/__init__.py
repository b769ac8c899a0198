"""What is known: images, changes, plans, failures, the ports, and the stores behind one of them."""
