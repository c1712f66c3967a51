"""The operations that have, or will have, more than one implementation: one folder each, its plain twin beside it.

The model imports an operation by its name and never asks which implementation runs; ops.dispatch decides.
An operation ends in a projection (norm_project, gate_project, swiglu_project, head_loss) because rounding to 8 bits
and the product that follows are one step for the gradient: it passes straight through both.
"""
