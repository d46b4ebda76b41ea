"""The HTTP service: answers over a model, a look inside it, a dataset's mistakes, and runs.

`app` assembles it from one file of routes for each subject; they share a `Service`. `web/` is the
page, plain HTML, CSS and JavaScript.
"""
