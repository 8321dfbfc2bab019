"""CEL conditions.  (First slice.)"""


class Condition:
    """Placeholder until the next commit."""
