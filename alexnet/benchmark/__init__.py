"""Speed: our implementation against common baselines in the same run, and the machine's limits.

`suites` says what is compared, `interleaved_timer` how it is timed, `workloads`,
`torch_baselines` and `onnx_baselines` what is run, `roofline` how fast it could be at best.
"""
