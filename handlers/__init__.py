"""HTTP: parse, authorise, ask the ports, answer; and the pure algorithms of selection."""
