"""Features to answers: variants, training, calibration, baselines and the exported artefact."""
