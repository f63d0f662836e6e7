"""Fitting the laws to measurements, and scoring them on rows that they were not fitted on."""
