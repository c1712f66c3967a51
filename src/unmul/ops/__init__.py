"""The operations that have, or will have, more than one implementation: one folder each, its plain twin beside it.

The model imports an operation by its name and never asks which implementation runs; the folder's __init__ decides.
"""
