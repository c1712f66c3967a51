// The shape of one model, known when the kernels are compiled, and the structures that the host fills.
// Letters: D width, E width of the token mixer, I hidden width of the channel mixer, V vocabulary, L layers, T tokens,
// B sequences.
#pragma once

#include "primitives.cuh"

// UNMUL_WIDTH, UNMUL_MIXER, UNMUL_HIDDEN, UNMUL_VOCABULARY, UNMUL_LAYERS, UNMUL_EPS, UNMUL_INT8_EMBEDDINGS come from the
// compiler's command line.
constexpr int kWidth = UNMUL_WIDTH;
constexpr int kMixer = UNMUL_MIXER;
constexpr int kHidden = UNMUL_HIDDEN;
constexpr int kVocabulary = UNMUL_VOCABULARY;
constexpr int kLayers = UNMUL_LAYERS;
constexpr float kEps = UNMUL_EPS;
constexpr float kBitLinearEps = 1e-6f;
constexpr int kMostSequences = 64;  // of a batch

// Weights: layout.py has the same numbers and says what a tile is.
constexpr int kTileRows = 16;
constexpr int kTileColumns = 128;
constexpr int kTileWords = 128;  // 512 bytes

UNMUL_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
UNMUL_DEVICE constexpr int greater(int a, int b) { return a > b ? a : b; }
UNMUL_DEVICE constexpr int padded(int columns) { return ceil_div(columns, kTileColumns) * kTileColumns; }

constexpr int kWidthPadded = padded(kWidth);
constexpr int kMixerPadded = padded(kMixer);
constexpr int kHiddenPadded = padded(kHidden);
constexpr int kWidthTiles = kWidthPadded / kTileColumns;  // along a row
constexpr int kMixerTiles = kMixerPadded / kTileColumns;
constexpr int kHiddenTiles = kHiddenPadded / kTileColumns;
constexpr int kWidthUnits = ceil_div(kWidth, kTileRows);  // panels of 16 rows
constexpr int kMixerUnits = ceil_div(kMixer, kTileRows);
constexpr int kHiddenUnits = ceil_div(kHidden, kTileRows);
constexpr int kVocabularyUnits = ceil_div(kVocabulary, kTileRows);

// The products of a token in their order; a unit is the panels that one epilogue needs together.
enum Product { kMixIn, kMixOut, kChannelIn, kChannelOut, kHead, kProducts };

struct Units {
    int count;   // in the product
    int panels;  // of a unit
    int tiles;   // of a panel
    UNMUL_DEVICE constexpr int64_t size() const { return int64_t(count) * panels * tiles; }
    UNMUL_DEVICE constexpr int unit_tiles() const { return panels * tiles; }
};

UNMUL_DEVICE constexpr Units units_of(int product) {
    return product == kMixIn       ? Units{kMixerUnits, 3, kWidthTiles}    // i, f, g
           : product == kMixOut    ? Units{kWidthUnits, 1, kMixerTiles}    // o
           : product == kChannelIn ? Units{kHiddenUnits, 2, kWidthTiles}   // gate, up
           : product == kChannelOut ? Units{kWidthUnits, 1, kHiddenTiles}  // down
                                    : Units{kVocabularyUnits, 1, kWidthTiles};
}

constexpr int64_t kMixOutTile = units_of(kMixIn).size();  // the first tile of each product within a layer
constexpr int64_t kChannelInTile = kMixOutTile + units_of(kMixOut).size();
constexpr int64_t kChannelOutTile = kChannelInTile + units_of(kChannelIn).size();
constexpr int64_t kLayerTiles = kChannelOutTile + units_of(kChannelOut).size();

UNMUL_DEVICE constexpr int64_t first_tile(int layer, int product) {
    const int64_t within = product == kMixOut       ? kMixOutTile
                           : product == kChannelIn  ? kChannelInTile
                           : product == kChannelOut ? kChannelOutTile
                                                    : 0;
    return layer * kLayerTiles + within;  // the head's layer is the number of layers
}

// Gains of the norms as bfloat16, as files have them; rows of a layer, then the last norm's and the head's. Of a layer's
// rows all before kGNorm are [D], all from it on [E], but the last is [I].
enum Gain { kAttnNorm, kGainI, kGainF, kGainG, kMlpNorm, kGainGate, kGNorm, kGainO, kGainDown };
UNMUL_DEVICE constexpr int gain_place(int gain) {
    return gain < kGNorm ? gain * kWidthPadded : kGNorm * kWidthPadded + (gain - kGNorm) * kMixerPadded;
}
constexpr int kLayerGains = gain_place(kGainDown) + kHiddenPadded;
UNMUL_DEVICE constexpr int64_t gain_offset(int layer, int gain) {
    return int64_t(layer) * kLayerGains + gain_place(gain);
}

enum Scale { kScaleI, kScaleF, kScaleG, kScaleO, kScaleGate, kScaleDown, kLayerScales };

struct Model {
    const uint4* weights;  // tiles, product after product, layer after layer; the head is last
    const uint16_t* gains;
    const float* bounds;  // [L, E]
    const float* scales;  // [L, kLayerScales], then the head's
    const void* embeddings;  // [V, D] int8 with a scale a row, or bfloat16
    const float* embedding_scales;
};

// Quantised rows: of up to three projections, [projection, token, padded columns]. i, f and g read three of the width, o
// one of the mixer's, down one of the hidden width.
constexpr int kInputRow = greater(3 * kWidthPadded, greater(kMixerPadded, kHiddenPadded));
struct Quantised {
    int8_t* q;
    float* factor;  // [3, tokens] scale of the weights / scale of the row
    int32_t* sum;   // [3, tokens] of the codes
    int tokens;     // capacity, the stride between projections
};

// Activations of one pass, float32, rows padded; what is beyond the true width is and stays zero.
struct Workspace {
    float* x;       // [T, D] the residual stream
    float* gate;    // [T, E] product of g_proj
    float* hidden;  // [T, E] SiLU of the state
    float* wide;    // [T, I] SiLU(gate) * up
    Quantised input;
    float* logits;        // [T, V]
    uint64_t* best;       // [2, B] the largest logit and its token
    int32_t* next;        // [B] tokens that were drawn
    uint64_t* weights;    // [B, V] of the tokens to draw from
    uint64_t* sums;       // [B, kTeamSums], zero between draws: see sample.cuh
    uint32_t* barrier;    // [2] of the grid, then [B, 2] of teams
    uint64_t* timed;      // [rows, B, the widest row] in place of x, gate, hidden and wide: see exchange.cuh
};
