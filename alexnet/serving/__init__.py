"""Using a trained network: today on files, by the command line."""
