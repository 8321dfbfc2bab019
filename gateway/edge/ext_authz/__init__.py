"""Envoy's external authorization over gRPC."""
