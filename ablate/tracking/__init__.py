"""Telling Weights & Biases what a study does: a process of its own that reads the study's folder.

Neither the process that runs a study nor those of its stages import wandb: `tracker` starts `sender`, which
sends what `rows`, `described` and `outputs` find in the files, through `runs` and `client`.
"""
