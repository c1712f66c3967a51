"""The cycle model against what must hold whatever its constants, and energy against the one metered system."""

from collections import Counter
from dataclasses import replace

import pytest
from models import TINY, WIDE

from unmul.gateware import isa
from unmul.gateware.boards import BOARDS
from unmul.gateware.compile import plan_model
from unmul.gateware.energy import DRAM, ELEMENTS, PRODUCTS, RAM, count_events, estimate
from unmul.gateware.fit import choose_parameters
from unmul.gateware.parameters import Parameters
from unmul.gateware.report import evaluate_board, paper_blocks, report, zero_checkpoint
from unmul.gateware.timing import PIPELINE, model_time

SIM = BOARDS["sim"]
LANES64 = Parameters(port_bytes=16)
FAST = replace(SIM, port_bytes=16, bandwidth=1.6e9)


def timed(listing, parameters=LANES64, board=FAST):
    return model_time(isa.assemble(listing), parameters, board)


def test_a_lone_product_takes_a_beat_a_cycle_where_the_memory_keeps_up():
    found = timed("stream address=0, length=4000\ntmatmul v1, q0, s0, count=1000, beats=4\nhalt")
    assert found.lane_cycles == 4000
    assert 0 <= found.cycles - 4000 - FAST.latency_cycles - PIPELINE["tmatmul"] <= 4
    assert found.bound == "lanes"


def test_a_slow_memory_binds_and_starves_the_unit():
    slow = replace(FAST, bandwidth=0.4e9)
    found = timed("stream address=0, length=4000\ntmatmul v1, q0, s0, count=1000, beats=4\nhalt", board=slow)
    assert found.memory_cycles == 4 * LANES64.words(4000)
    assert found.memory_cycles <= found.cycles < 1.02 * found.memory_cycles
    assert found.bound == "memory"
    assert found.starved > 0.6 * found.cycles


def test_a_buffer_lets_the_memory_work_beside_a_long_norm():
    listing = "stream address=0, length=1600\nnorm v1, v2, v3, s1, s2, count=500\n" + (
        "load v4, count=1\nquant q0, v1, v4, s1, s2, count=500\ntmatmul v1, q0, s0, count=400, beats=3\n"
        "scale s0\nscale s0\nhalt"
    )
    slow = replace(FAST, bandwidth=0.4e9)
    deep, shallow = (timed(listing, replace(LANES64, buffer_words=words), slow).cycles for words in (2048, 16))
    assert deep < shallow - 500


def test_units_overlap_where_registers_allow_and_wait_where_not():
    apart = timed("silu v1, v1, count=500\nnorm v2, v3, v4, s1, s2, count=500\nhalt")
    chained = timed("silu v3, v3, count=500\nnorm v2, v3, v4, s1, s2, count=500\nhalt")
    assert chained.cycles - apart.cycles >= 500
    assert apart.busy == chained.busy


def test_prefill_leaves_the_head_out_and_wider_lanes_take_fewer_cycles():
    program = plan_model(zero_checkpoint(TINY), choose_parameters(TINY, SIM)).program
    decode, prefill = (model_time(program, choose_parameters(TINY, SIM), SIM, prefill=each) for each in (False, True))
    assert decode.lane_cycles - prefill.lane_cycles == TINY.vocab_size  # width 42: a beat a row
    assert prefill.cycles < decode.cycles
    assert decode.cycles >= decode.bound_cycles


# Width 84 of a token mixer: o_proj has two beats a row, as down_proj has.
@pytest.mark.parametrize(("shape", "mixer", "o_beats"), [(TINY, 42, 1), (WIDE, 84, 2)], ids=["tiny", "wide"])
def test_events_are_counted_from_the_program(shape, mixer, o_beats):
    parameters = choose_parameters(shape, SIM)
    plan = plan_model(zero_checkpoint(shape), parameters)
    events = count_events(plan.program, parameters)
    beats = 3 * mixer + o_beats * 42 + 2 * 77 + 2 * 42  # of a layer's products
    assert events[PRODUCTS] == (3 * beats + 131) * 64
    words = plan.regions["body"][1] + plan.regions["head"][1] + parameters.words(parameters.vector_beats(42))
    assert events[DRAM] == words * 64
    normed = 2 * (42 * (2 + 4) + mixer * (1 + 1) + 77)  # by norm and quant, twice each
    assert events[ELEMENTS] == 3 * (normed + mixer * 5 + 77 * 2) + 2 * 2 * 42
    assert events[RAM] > 2 * events[DRAM] + 8 * events[PRODUCTS]


def test_totals_grow_from_logic_over_memory_to_the_board_and_bands_are_ordered():
    energy = evaluate_board(zero_checkpoint(TINY), BOARDS["kv260"]).energy
    assert energy.logic.low < energy.logic.mid < energy.logic.high < energy.with_memory.high < energy.with_idle.high
    slower = estimate(Counter({PRODUCTS: 1000}), BOARDS["kv260"], 1.0)
    assert slower.with_idle.mid == pytest.approx(3810)
    assert estimate(Counter(), SIM, 1.0) is None


def test_the_method_lands_within_a_factor_of_two_of_the_one_metered_system():
    # bitnet-kv260: 2.4 G ternary weights, 3.87 Gbit a token, 147 mJ above rest at the board's own meter.
    events = Counter({PRODUCTS: 2_400_000_000, DRAM: 3_870_000_000, RAM: 3 * 3_870_000_000 + 8 * 2_400_000_000})
    energy = estimate(events, BOARDS["kv260"], 16.78)
    assert energy.with_memory.mid / 2 < 147 < energy.with_memory.mid * 2
    assert energy.with_idle.mid / 2 < 381 < energy.with_idle.mid * 2


def test_the_report_lists_boards_that_cannot_hold_the_model_with_the_reason():
    found = report(
        zero_checkpoint(replace(TINY, vocab_size=60000, hidden_size=600)), [BOARDS["sim"], BOARDS["ulx3s-85f"]]
    )
    refused = {each["board"] for each in found["boards"] if "refused" in each}
    assert refused == {"ulx3s-85f"}
    assert all(mark["obtained"] for mark in found["marks"])


def test_the_papers_block_is_beaten_at_its_own_port_and_clock():
    for block in paper_blocks():
        assert block["our_milliseconds"] < block["milliseconds"]
