"""Floor 3: broker, controller and client nodes, each a composition of the machines of floor 2, still pure."""
