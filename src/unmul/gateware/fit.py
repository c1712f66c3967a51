"""Parameters for a model on a board, and what does not fit, said before anything is compiled."""

from __future__ import annotations

from unmul.config import ModelConfig
from unmul.errors import GatewareError
from unmul.gateware.boards import Board
from unmul.gateware.isa import FIELDS
from unmul.gateware.parameters import QUANTISED_REGISTERS, VECTOR_REGISTERS, Parameters

__all__ = ["check_fit", "choose_parameters", "image_bytes", "luts", "ram_bits"]

VECTOR_STEP = 512  # elements: a vector register is whole block RAMs
LUTS_PER_LANE = 32  # dot unit 25 and decoder 7, placed for ECP5
LUTS_BESIDE = 6000  # norm, row and stream units, sequencer: an estimate
PROGRAM_DEPTH = 64
BUFFER_BYTES = 16 * 1024


def choose_parameters(config: ModelConfig, board: Board, lanes: int | None = None) -> Parameters:
    """The smallest accelerator that holds a model, as wide as the board's memory asks for, or as told.

    Raises:
        GatewareError: an instruction's field or the board is too small for the model.
    """
    parameters = Parameters(
        lanes=board.lanes if lanes is None else lanes,
        vector_depth=-(-_widest(config) // VECTOR_STEP) * VECTOR_STEP,
        state_depth=max(16, config.state_values),
        port_bytes=board.port_bytes,
        buffer_words=max(64, BUFFER_BYTES // board.port_bytes),
        program_depth=PROGRAM_DEPTH,
        clock_mhz=board.clock_mhz,
        board=board.name,
    )
    check_fit(config, parameters, board)
    return parameters


def check_fit(config: ModelConfig, parameters: Parameters, board: Board) -> None:
    """Compare what a model needs with what an accelerator and a board have.

    Raises:
        GatewareError: the first need that is not met, with both figures.
    """
    if config.use_state_norm:
        raise GatewareError("use_state_norm has no instructions", "build a model with the published output gate")
    row = parameters.vector_beats(config.hidden_size)
    image = image_bytes(config, parameters)
    body = sum(beats for name, beats in _matrix_beats(config, parameters).items() if name != "lm_head.weight")
    wide = "build with fewer --lanes, or choose a board with a wider memory port"
    needs = (
        ("vector_depth", _widest(config), parameters.vector_depth, "give vector registers as long as the widest layer"),
        ("state_depth", config.state_values, parameters.state_depth, "give the state a value per layer and channel"),
        ("vocabulary", config.vocab_size, FIELDS["count"].bounds.stop - 1, "no build holds more rows of the head"),
        ("beats of an embedding row", row, FIELDS["row_beats"].bounds.stop - 1, "build with more --lanes"),
        ("words of an embedding row", parameters.words(row), FIELDS["stride"].bounds.stop - 1, wide),
        ("beats of matrices", body, FIELDS["length"].bounds.stop - 1, "use more --lanes"),
        ("bytes of weights", image, board.memory_bytes, f"{board.name} has no more memory: choose another --board"),
        ("LUTs", luts(parameters), board.luts, "build with fewer --lanes"),
        ("bits of block RAM", ram_bits(parameters), board.ram_bits, "choose another --board, or a smaller model"),
    )
    for what, needed, there, remedy in needs:
        if needed > there:
            raise GatewareError(f"the model needs {needed:,} {what}, {board.name} has {there:,}", remedy)


def image_bytes(config: ModelConfig, parameters: Parameters) -> int:
    """Bytes of the weight image, up to the last port word of each part."""
    beat = parameters.beat_bytes
    row = parameters.words(parameters.vector_beats(config.hidden_size)) * parameters.port_bytes
    matrices = sum(_matrix_beats(config, parameters).values()) * beat
    gains = sum(
        parameters.vector_beats(shape[0]) * beat
        for name, shape in config.tensor_shapes.items()
        if name.endswith("norm.weight")
    )
    bounds = config.num_hidden_layers * parameters.vector_beats(config.mixer_size) * beat
    scales = (7 * config.num_hidden_layers + 1) * beat  # gate_proj is streamed as two matrices
    return config.vocab_size * row + matrices + gains + bounds + scales


def _widest(config: ModelConfig) -> int:
    """Elements of the longest vector: the residual stream's, a token mixer's or a channel mixer's."""
    return max(config.hidden_size, config.mixer_size, config.ffn_size)


def _matrix_beats(config: ModelConfig, parameters: Parameters) -> dict[str, int]:
    shapes = config.tensor_shapes
    names = config.ternary_names
    return {name: shapes[name][0] * parameters.row_beats(shapes[name][1]) for name in names}


def luts(parameters: Parameters) -> int:
    """LUTs of an accelerator, estimated; `unmul rtl synth` counts them."""
    return LUTS_BESIDE + LUTS_PER_LANE * parameters.lanes


def ram_bits(parameters: Parameters) -> int:
    """Bits of block RAM: registers, state, stream buffer."""
    vectors = VECTOR_REGISTERS * parameters.vector_depth * 32
    quantised = QUANTISED_REGISTERS * parameters.quantised_rows * parameters.lanes * 8
    buffer = parameters.buffer_words * parameters.port_bytes * 8
    return vectors + quantised + parameters.state_depth * 32 + buffer
