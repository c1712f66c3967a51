// Many tokens of one text: rows are prepared by a block each, products run on tensor cores with weights unpacked on their
// way from shared memory to registers, the recurrence goes through time channel by channel.
// UNMUL_TOKEN_GROUPS: groups of 8 tokens that one warp multiplies. UNMUL_STAGES: tiles of columns on their way at once.
#include "rows.cuh"
#include "tiles.cuh"

struct Chunk {
    const int32_t* ids;  // [T]
    float* state;        // [L, D]
    float* mixed;        // [T, 3, D] products of i, f, g; i becomes SiLU of the state
    int32_t tokens;
    int32_t first;       // of the tokens whose logits are wanted
    int32_t layer;
};

constexpr int kMixedRow = 3 * kWidthPadded;

// Rows: one block a token.

UNMUL_KERNEL(kThreads) embed_rows(const Model model, const Workspace space, const Chunk chunk) {
    Share<kWidth> x;
    embed(x, model, chunk.ids[blockIdx.x]);
    x.store(space.x + int64_t(blockIdx.x) * kWidthPadded);
}

UNMUL_KERNEL(kThreads) mix_in_rows(const Model model, const Workspace space, const Chunk chunk) {
    const MixInRow row(model, chunk.layer);
    Share<kWidth> x;
    x.load(space.x + int64_t(blockIdx.x) * kWidthPadded);
    row.apply(x, space.input, kWidthPadded, blockIdx.x, *reinterpret_cast<Scratch*>(shared_memory()));
}

UNMUL_KERNEL(kThreads) mix_out_rows(const Model model, const Workspace space, const Chunk chunk) {
    const NormedRow row(model, chunk.layer, kMixOut);
    const float* mixed = chunk.mixed + int64_t(blockIdx.x) * kMixedRow;
    Share<kWidth> gate, state;
    gate.load(mixed + 2 * kWidthPadded);
    state.load(mixed);
    row.apply(gate, &state, space.input, kWidthPadded, blockIdx.x, *reinterpret_cast<Scratch*>(shared_memory()));
}

UNMUL_KERNEL(kThreads) channel_in_rows(const Model model, const Workspace space, const Chunk chunk) {
    const NormedRow row(model, chunk.layer, kChannelIn);
    Share<kWidth> x;
    x.load(space.x + int64_t(blockIdx.x) * kWidthPadded);
    row.apply(x, nullptr, space.input, kWidthPadded, blockIdx.x, *reinterpret_cast<Scratch*>(shared_memory()));
}

UNMUL_KERNEL(kThreads) channel_out_rows(const Model model, const Workspace space, const Chunk chunk) {
    const ChannelOutRow row(model, chunk.layer);
    Share<kHidden> z;
    z.load(space.wide + int64_t(blockIdx.x) * kHiddenPadded);
    row.apply(z, space.input, kHiddenPadded, blockIdx.x, *reinterpret_cast<Scratch*>(shared_memory()));
}

UNMUL_KERNEL(kThreads) head_rows(const Model model, const Workspace space, const Chunk chunk) {
    const NormedRow row(model, kLayers, kHead);
    Share<kWidth> x;
    x.load(space.x + int64_t(chunk.first + blockIdx.x) * kWidthPadded);
    row.apply(x, nullptr, space.input, kWidthPadded, blockIdx.x, *reinterpret_cast<Scratch*>(shared_memory()));
}

// Products: a block of 8 warps multiplies 8 panels by 4 x kTokenGroups x 8 tokens, a warp 4 panels by a quarter of these.

constexpr int kTokenGroups = UNMUL_TOKEN_GROUPS;
constexpr int kBlockTokens = 32 * kTokenGroups;
constexpr int kBlockPanels = 8, kWarpPanels = 4;
constexpr int kProductThreads = 256;
constexpr int kStages = UNMUL_STAGES;

struct Stage {
    uint4 weights[kBlockPanels][32];
    uint4 rows[kBlockTokens][8];
};

// 16 bytes of a row of 128: odd rows are turned by half, so that the two rows that 8 lanes read lie in all banks.
UNMUL_DEVICE int turned(int row, int part) { return part ^ (row & 1) << 2; }

template <int Which>
class ProductBlock {
public:
    UNMUL_DEVICE ProductBlock(const Model& model, const Workspace& space, const Chunk& chunk, Stage* stages)
        : space_(space), chunk_(chunk), stages_(stages) {
        const int64_t first = first_tile(Which == kHead ? kLayers : chunk.layer, Which);
        weights_ = model.weights + (first + int64_t(panel_place(warp_index())) * kUnits.tiles) * 32 + lane_index();
        const int row = threadIdx.x / 8;
        q_ = space.input.q + (int64_t(projection()) * space.input.tokens + first_token() + row) * kStride + threadIdx.x % 8 * 16;
    }

    UNMUL_DEVICE void run() {
        for (int tile = 0; tile < kStages - 1; ++tile) ask(tile);
        for (int tile = 0; tile < kUnits.tiles; ++tile) {
            wait_copies<kStages - 2>();
            block_barrier();
            ask(tile + kStages - 1);
            multiply(stages_[tile % kStages]);
        }
        finish();
    }

private:
    static constexpr Units kUnits = units_of(Which);
    static constexpr int kStride = kUnits.tiles * kTileColumns;

    // The place of a panel of this block in the product; beyond the last one, the last is read again and not used.
    UNMUL_DEVICE static int panel_place(int panel) {
        const int place = blockIdx.x * kBlockPanels + panel;
        return Which == kMixIn ? min(place, kUnits.count - 1) * 3 + blockIdx.z : min(place, kUnits.count * kUnits.panels - 1);
    }

    UNMUL_DEVICE void ask(int tile) {
        if (tile < kUnits.tiles) {
            Stage& stage = stages_[tile % kStages];
            copy_async(&stage.weights[warp_index()][lane_index()], weights_ + tile * 32);
            const int row = threadIdx.x / 8;
#pragma unroll
            for (int k = 0; k < kBlockTokens; k += kProductThreads / 8)
                copy_async(&stage.rows[row + k][turned(row, threadIdx.x % 8)], q_ + k * kStride + tile * kTileColumns);
        }
        commit_copies();
    }

    UNMUL_DEVICE void multiply(const Stage& stage) {
        uint4 weights[kWarpPanels];
#pragma unroll
        for (int p = 0; p < kWarpPanels; ++p) weights[p] = stage.weights[warp_panel() + p][lane_index()];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint4 q[kTokenGroups];
#pragma unroll
            for (int t = 0; t < kTokenGroups; ++t) {
                const int row = warp_token() + 8 * t + lane_index() / 4;
                q[t] = stage.rows[row][turned(row, 4 * half + lane_index() % 4)];
            }
#pragma unroll
            for (int p = 0; p < kWarpPanels; ++p) {
                uint32_t a[4];
                unpack(half ? weights[p].z : weights[p].x, a);
#pragma unroll
                for (int t = 0; t < kTokenGroups; ++t) multiply_add(sums_[p][t], a, q[t].x, q[t].y);
                unpack(half ? weights[p].w : weights[p].y, a);
#pragma unroll
                for (int t = 0; t < kTokenGroups; ++t) multiply_add(sums_[p][t], a, q[t].z, q[t].w);
            }
        }
    }

    // Everything is loaded before anything is stored, for the compiler cannot know that they are different places. Padding
    // is written as zeros; rows beyond the last token have memory, and nobody reads what the products leave there.
    UNMUL_DEVICE void finish() {
        float factor[kTokenGroups][2];
        int32_t sum[kTokenGroups][2];
#pragma unroll
        for (int t = 0; t < kTokenGroups; ++t)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int64_t at = int64_t(projection()) * space_.input.tokens + token(t, e);
                factor[t][e] = space_.input.factor[at];
                sum[t][e] = space_.input.sum[at];
            }
#pragma unroll
        for (int t = 0; t < kTokenGroups; ++t) {
            float before[4][kWarpPanels] = {};
            if (Which == kMixOut || Which == kChannelOut) {
#pragma unroll
                for (int e = 0; e < 4; ++e)
#pragma unroll
                    for (int p = 0; p < kWarpPanels; ++p) before[e][p] = load_now(space_.x + place(t, e, p));
            }
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                float y[kWarpPanels];
#pragma unroll
                for (int p = 0; p < kWarpPanels; ++p)
                    y[p] = exists(p) ? float(sums_[p][t][e] - sum[t][e % 2]) * factor[t][e % 2] : 0;
#pragma unroll
                for (int p = 0; p < kWarpPanels; p += kStep) {
                    if (Which == kHead && (token(t, e) >= chunk_.tokens || channel(e, p) >= kVocabulary)) continue;
                    output()[place(t, e, p)] = Which == kChannelIn ? silu(y[p]) * y[p + kStep - 1]
                                             : Which == kMixOut || Which == kChannelOut ? before[e][p] + y[p]
                                                                                        : y[p];
                }
            }
        }
    }

    static constexpr int kStep = Which == kChannelIn ? 2 : 1;  // gate and up stand side by side
    static constexpr int kOutputRow = Which == kMixIn ? kMixedRow : Which == kChannelIn ? kHiddenPadded
                                    : Which == kHead  ? kVocabulary : kWidthPadded;

    UNMUL_DEVICE float* output() const {
        return Which == kMixIn ? chunk_.mixed : Which == kChannelIn ? space_.wide : Which == kHead ? space_.logits : space_.x;
    }
    UNMUL_DEVICE static int token(int t, int e) { return first_token() + warp_token() + 8 * t + lane_token(e); }
    UNMUL_DEVICE static int channel(int e, int p) {
        return (blockIdx.x * kBlockPanels + warp_panel() + p) / kStep * kTileRows + lane_row(e);
    }
    UNMUL_DEVICE static int64_t place(int t, int e, int p) {
        return int64_t(token(t, e)) * kOutputRow + projection() * kWidthPadded + channel(e, p);
    }
    UNMUL_DEVICE static bool exists(int p) {
        return int(blockIdx.x * kBlockPanels) + warp_panel() + p < kUnits.count * (Which == kMixIn ? 1 : kUnits.panels);
    }
    UNMUL_DEVICE static int projection() { return Which == kMixIn ? blockIdx.z : 0; }
    UNMUL_DEVICE static int first_token() { return blockIdx.y * kBlockTokens; }
    UNMUL_DEVICE static int warp_panel() { return warp_index() % 2 * kWarpPanels; }
    UNMUL_DEVICE static int warp_token() { return warp_index() / 2 * 8 * kTokenGroups; }

    const Workspace& space_;
    const Chunk& chunk_;
    Stage* const stages_;
    const uint4* weights_;  // what this thread copies: 16 bytes of a panel's tile, and of a few rows
    const int8_t* q_;
    int32_t sums_[kWarpPanels][kTokenGroups][4] = {};
};

template <int Which>
UNMUL_DEVICE void product(const Model& model, const Workspace& space, const Chunk& chunk) {
    ProductBlock<Which>(model, space, chunk, reinterpret_cast<Stage*>(shared_memory())).run();
}

UNMUL_KERNEL(kProductThreads) mix_in(const Model model, const Workspace space, const Chunk chunk) {
    product<kMixIn>(model, space, chunk);
}
UNMUL_KERNEL(kProductThreads) mix_out(const Model model, const Workspace space, const Chunk chunk) {
    product<kMixOut>(model, space, chunk);
}
UNMUL_KERNEL(kProductThreads) channel_in(const Model model, const Workspace space, const Chunk chunk) {
    product<kChannelIn>(model, space, chunk);
}
UNMUL_KERNEL(kProductThreads) channel_out(const Model model, const Workspace space, const Chunk chunk) {
    product<kChannelOut>(model, space, chunk);
}
UNMUL_KERNEL(kProductThreads) head(const Model model, const Workspace space, const Chunk chunk) {
    product<kHead>(model, space, chunk);
}

// The recurrence, to the bit as token by token: a block owns 16 channels. One warp goes through time, the others prepare
// the gates of the next stretch of tokens and finish the one before.

constexpr int kScanChannels = 16;
constexpr int kScanWorkers = kThreads - 32;
constexpr int kScanItems = 2;  // of a worker in a stretch
constexpr int kScanTokens = kScanItems * kScanWorkers / kScanChannels;

struct ScanMemory {
    float f[2][kScanTokens][kScanChannels], i[2][kScanTokens][kScanChannels], h[2][kScanTokens][kScanChannels];
};

struct ScanWorker {
    float i[kScanItems], f[kScanItems];

    UNMUL_DEVICE static int worker() { return threadIdx.x - 32; }
    UNMUL_DEVICE static int channel() { return worker() % kScanChannels; }
    UNMUL_DEVICE static int token(int item) { return worker() / kScanChannels + item * (kScanWorkers / kScanChannels); }

    template <class Function>
    UNMUL_DEVICE static void each(const Chunk& chunk, int stretch, Function function) {
        const int column = blockIdx.x * kScanChannels + channel();
#pragma unroll
        for (int item = 0; item < kScanItems; ++item) {
            const int t = stretch * kScanTokens + token(item);
            if (t < chunk.tokens && column < kWidth) function(item, chunk.mixed + int64_t(t) * kMixedRow + column);
        }
    }
    UNMUL_DEVICE void load(const Chunk& chunk, int stretch) {
        each(chunk, stretch, [&](int item, const float* at) {
            i[item] = at[0];
            f[item] = at[kWidthPadded];
        });
    }
    UNMUL_DEVICE void prepare(const Chunk& chunk, int stretch, float bound, ScanMemory& memory) const {
        each(chunk, stretch, [&](int item, const float*) {
            const Gates gates(f[item], i[item], bound);
            memory.f[stretch % 2][token(item)][channel()] = gates.f;
            memory.i[stretch % 2][token(item)][channel()] = gates.i;
        });
    }
    UNMUL_DEVICE static void finish(const Chunk& chunk, int stretch, const ScanMemory& memory) {
        each(chunk, stretch, [&](int item, float* at) { *at = silu(memory.h[stretch % 2][token(item)][channel()]); });
    }
};

UNMUL_DEVICE void scan_stretch(float& h, int stretch, int tokens, ScanMemory& memory) {
    const int channel = threadIdx.x, count = min(kScanTokens, tokens - stretch * kScanTokens);
#pragma unroll 10
    for (int t = 0; t < count; ++t) {
        h = memory.f[stretch % 2][t][channel] * h + memory.i[stretch % 2][t][channel];
        memory.h[stretch % 2][t][channel] = h;
    }
}

UNMUL_KERNEL(kThreads) scan(const Model model, const Workspace, const Chunk chunk) {
    ScanMemory& memory = *reinterpret_cast<ScanMemory*>(shared_memory());
    const bool scans = threadIdx.x < kScanChannels, works = threadIdx.x >= 32;
    const int column = blockIdx.x * kScanChannels + threadIdx.x % kScanChannels;
    const bool inside = column < kWidth;
    float* state = chunk.state + int64_t(chunk.layer) * kWidth + column;
    const float bound = inside ? model.bounds[chunk.layer * kWidth + column] : 0;
    float h = scans && inside ? *state : 0;
    ScanWorker worker;
    const int stretches = ceil_div(chunk.tokens, kScanTokens);
    if (works) worker.load(chunk, 0);
    for (int n = 0; n < stretches + 2; ++n) {
        if (works && n < stretches) {
            worker.prepare(chunk, n, bound, memory);
            worker.load(chunk, n + 1);
        }
        if (works && n >= 2) ScanWorker::finish(chunk, n - 2, memory);
        if (scans && n >= 1 && n <= stretches) scan_stretch(h, n - 1, chunk.tokens, memory);
        block_barrier();
    }
    if (scans && inside) *state = h;
}
