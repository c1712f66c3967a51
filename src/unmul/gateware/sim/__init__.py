"""Simulators of the core's Verilog."""
