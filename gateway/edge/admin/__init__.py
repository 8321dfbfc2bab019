"""The admin listener: health, readiness, metrics and the page for the operator."""
