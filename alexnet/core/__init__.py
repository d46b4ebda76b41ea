"""What every other package uses: errors, counted randomness, atomic files, devices, the console."""
