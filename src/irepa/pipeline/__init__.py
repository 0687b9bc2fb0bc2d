"""The pipeline as data: the graph of stages, fingerprints, files and the runner of one job."""
