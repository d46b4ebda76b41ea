"""The commands, one file each: a command parses its options, calls the library and prints.

Heavy modules are imported inside the commands, so that help is there at once.
"""
