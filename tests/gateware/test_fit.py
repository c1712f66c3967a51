"""What an accelerator and a board can hold, and what is said where they cannot."""

from dataclasses import replace

import pytest
from models import TINY, WIDE

from unmul.config import preset
from unmul.errors import GatewareError, UsageError
from unmul.gateware.boards import BOARDS, board
from unmul.gateware.compile import plan_model
from unmul.gateware.fit import check_fit, choose_parameters, image_bytes
from unmul.gateware.parameters import Parameters
from unmul.gateware.report import open_shape, zero_checkpoint

SIM = BOARDS["sim"]


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("shape", [TINY, WIDE, preset("370m")], ids=["tiny", "wide", "370m"])
def test_bytes_foretold_are_the_images_up_to_its_last_words(name, shape):
    parameters = replace(choose_parameters(shape, replace(BOARDS[name], memory_bytes=2**40)), board=name)
    plan = plan_model(zero_checkpoint(shape), parameters)
    written = sum(words for _start, words in plan.regions.values()) * parameters.port_bytes
    assert 0 <= written - image_bytes(shape, parameters) < 2 * parameters.port_bytes


@pytest.mark.parametrize(
    ("config", "change", "problem"),
    [
        (TINY, {"vector_depth": 76}, r"needs 77 vector_depth, sim has 76"),
        (TINY, {"state_depth": 125}, r"needs 126 state_depth, sim has 125"),
        (WIDE, {"vector_depth": 83}, r"needs 84 vector_depth, sim has 83"),
        (WIDE, {"state_depth": 251}, r"needs 252 state_depth, sim has 251"),
    ],
)
def test_a_register_that_is_too_short_is_named_with_both_figures(config, change, problem):
    parameters = replace(choose_parameters(config, SIM), **change)
    with pytest.raises(GatewareError, match=problem):
        check_fit(config, parameters, SIM)


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        (replace(TINY, hidden_size=513), 1024),
        (replace(TINY, hidden_size=300, expand_ratio=2), 1024),
        (replace(TINY, hidden_size=300, expand_ratio=2, intermediate_size=1025), 1536),
    ],
    ids=["D", "E", "I"],
)
def test_vector_registers_hold_the_widest_of_all_vectors(config, depth):
    assert choose_parameters(config, SIM).vector_depth == depth


@pytest.mark.parametrize(
    ("config", "lanes", "where", "problem"),
    [
        (preset("370m"), None, "ulx3s-85f", "bytes of weights, ulx3s-85f has 33,554,432"),
        (replace(TINY, vocab_size=70000), None, "sim", "needs 70,000 vocabulary, sim has 65,535"),
        (TINY, 2500, "ulx3s-85f", "LUTs, ulx3s-85f has 83,640: build with fewer --lanes"),
        (replace(TINY, num_hidden_layers=4000), None, "ulx3s-85f", "bits of block RAM, ulx3s-85f has 3,833,856"),
        (preset("2.7b"), 16, "kv260", "beats of matrices, kv260 has 67,108,863: use more --lanes"),
        (replace(TINY, hidden_size=10000), 16, "sim", "beats of an embedding row, sim has 4,095"),
        (replace(TINY, use_state_norm=True), None, "sim", "use_state_norm has no instructions"),
        (TINY, 15, "sim", "lanes 15 cannot be built: choose 16 to 4096"),
    ],
)
def test_what_a_board_cannot_hold_is_refused_with_a_way_out(config, lanes, where, problem):
    with pytest.raises(GatewareError, match=problem):
        choose_parameters(config, BOARDS[where], lanes)


def test_an_unknown_board_and_a_folder_that_is_none_are_refused():
    with pytest.raises(UsageError, match=r"--board ulx4s is not known: choose one of sim, ulx3s-85f"):
        board("ulx4s")
    with pytest.raises(Exception, match="no-such-folder"):
        open_shape("no-such-folder")


@pytest.mark.parametrize("change", [{"lanes": True}, {"port_bytes": 0}, {"clock_mhz": 0.0}, {"vector_depth": 2**16}])
def test_parameters_that_cannot_be_built_are_refused_by_name(change):
    with pytest.raises(GatewareError, match=next(iter(change))):
        Parameters(**change)


def test_parameters_survive_the_manifest_and_unknown_ones_are_refused():
    parameters = Parameters(lanes=33, board="ulx3s-85f")
    assert Parameters.from_dict(parameters.to_dict()) == parameters
    with pytest.raises(GatewareError, match="unknown parameter 'colour'"):
        Parameters.from_dict({"colour": 1})
