"""Predict new images with a study's networks: from its folder alone, without its images or the store."""
