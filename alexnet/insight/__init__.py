"""Looking at what was learnt: the figures, and a run's report. Model files and stores are only read here; nothing trains."""
