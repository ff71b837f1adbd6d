"""Hugging Face and ModelScope: repositories at a commit, and their files on this machine.

`opening.open_hubs` is for data sets, `opening.snapshot` for whoever wants a folder with a model.
"""
