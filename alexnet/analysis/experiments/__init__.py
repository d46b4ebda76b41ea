"""The paper's comparisons, run on any prepared dataset.

`ablations` says what is changed, `training_runs` trains, `runner` measures and `learning_speed`
measures the speed of learning, `results` compares, tabulates and plots.
"""
