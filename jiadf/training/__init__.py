"""Train networks: model inputs, features, the training loop, run folders, grids, prediction."""
