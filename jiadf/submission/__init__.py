"""Use trained networks: ensembles, the benchmark's file, and one's own images."""
