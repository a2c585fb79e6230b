"""Video encoders, one file a family."""
