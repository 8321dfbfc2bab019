"""Who calls: each file one kind of caller, which knows what every answer to it must be."""
