"""unmul rtl: the accelerator. A frame of its own verbs, each in cli/rtl_<verb>.py and imported when it runs."""

from __future__ import annotations

from cyclopts import App, Parameter

__all__ = ["RTL_VERBS", "rtl"]

RTL_VERBS = {
    "build": "Write the program and the weight image of a model for a board.",
    "sim": "Write text with the accelerator's Verilog, simulated, and compare it.",
    "synth": "Count the cells of the accelerator, and place and route it.",
    "bitstream": "Configure a board for a build; it has not run on one.",
    "report": "Estimate speed and energy on boards, beside what others published.",
}

rtl = App(
    name="rtl",
    help="The accelerator: a model as a program for it, and what that gives.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)
for _rank, (_verb, _purpose) in enumerate(RTL_VERBS.items()):
    rtl.command(f"unmul.cli.rtl_{_verb}:{_verb}", name=_verb, help=_purpose, sort_key=_rank)
