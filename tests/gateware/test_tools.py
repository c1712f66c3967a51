"""What a tool that is missing, or fails, says to the user."""

import sys

import pytest

from unmul.errors import GatewareError, MissingExtraError
from unmul.gateware.tools import package_folder, run_tool, run_yowasp

COMPLAINING = "import sys; sys.exit('first line\\nERROR: the last one')"


def test_a_tool_that_fails_is_told_by_its_last_line(tmp_path):
    with pytest.raises(GatewareError, match=r"^thing failed: ERROR: the last one: try less$"):
        run_tool([sys.executable, "-c", COMPLAINING], tmp_path, name="thing", remedy="try less")


def test_a_tool_that_says_nothing_is_told_as_well(tmp_path):
    with pytest.raises(GatewareError, match="failed: no message"):
        run_tool([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_a_tool_that_is_not_there_is_named(tmp_path):
    with pytest.raises(GatewareError, match=r"no-such-compiler cannot be run \(No such file"):
        run_tool(["no-such-compiler"], tmp_path)


def test_a_tool_runs_in_its_folder_with_what_is_added_to_the_environment(tmp_path):
    code = "import os; open('made', 'w').write(os.environ['ROOT'])"
    run_tool([sys.executable, "-c", code], tmp_path, environment={"ROOT": "here"})
    assert (tmp_path / "made").read_text() == "here"


def test_a_package_that_is_not_installed_names_its_extra(tmp_path):
    for call in (lambda: package_folder("no_such_tool"), lambda: run_yowasp("no_such_tool", "run", [], tmp_path)):
        with pytest.raises(MissingExtraError, match=r"no-such-tool.*unmul\[rtl\]"):
            call()
