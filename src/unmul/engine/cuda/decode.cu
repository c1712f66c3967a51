// Tokens of a batch, one after another, in one launch that keeps every multiprocessor until the last token is chosen.
//
// A token is 4 L + 1 products; each reads what all blocks made in the one before (exchange.cuh). A block owns the same units
// of every product and its warps split their tiles. Weights do not depend on what was computed, so each warp asks for its next
// tiles long before it may use them: the stream of weights runs on from product to product, across layers and tokens.
// UNMUL_GROUPS: groups of 8 sequences. UNMUL_FUSED: every block prepares the rows for itself in shared memory, which for
// one or two sequences is cheaper than one more barrier. UNMUL_DEPTH: tiles that a warp asks for ahead. UNMUL_SHARED: bytes.
#include "exchange.cuh"

// Before anything else: what is constant in a launch, and sums of zero.
UNMUL_DEVICE void begin(Shared& shared, const Workspace& space, const Call& call) {
    for (int k = threadIdx.x; k < kRoundPanels * kTileRows * kColumns; k += kThreads) shared.sums[k] = 0;
    if (threadIdx.x < kProducts) {
        shared.first[threadIdx.x] = unit_border(threadIdx.x, 0);
        shared.last[threadIdx.x] = unit_border(threadIdx.x, 1);
    }
    if (threadIdx.x < call.batch) {
        shared.token[threadIdx.x] = call.ids[threadIdx.x];
        shared.active[threadIdx.x] = 1;
        shared.best[threadIdx.x] = 0;
        if (blockIdx.x == 0) space.best[threadIdx.x] = 0;
    }
    block_barrier();
}

class Decoder {
public:
    UNMUL_DEVICE Decoder(const Model& model, const Workspace& space, const Call& call, Shared& shared)
        : model_(model), space_(space), call_(call), shared_(shared), exchange_(space, call.time),
          stream_(model.weights, shared, call.count) {}

    UNMUL_DEVICE void run() {
        for (step_ = 0; step_ < call_.count; ++step_) {
            // One loop and one copy of its code, whatever the product.
#pragma unroll 1
            for (int n = 0; n <= kHead * kLayers; ++n) {
                layer_ = n / kHead;
                product_ = layer_ == kLayers ? int(kHead) : n % kHead;
                if (!kFused || shared_.first[product_] < shared_.last[product_]) {
                    prepare();
                    multiply();
                }
                exchange_.end();
                stream_.fill();
            }
            if (call_.choices == nullptr || !choose()) break;
        }
        wait_copies<0>();
        exchange_.leave();
    }

private:
    // The input of the product: quantised rows of all sequences.
    UNMUL_DEVICE void prepare() {
        if (product_ == kMixIn) return prepare_mix_in();
        if (product_ == kMixOut) return prepare_mix_out();
        if (product_ == kChannelOut) return prepare_channel_out();
        const NormedRow row(model_, layer_, product_);
        exchange_.begin();
        each_row([&](int b) {
            Share<kWidth> x[1];
            exchange_.receive(x, kRowX, b);
            row.apply(x[0], input(), stride(kWidthPadded), b, shared_.scratch);
        });
    }

    UNMUL_DEVICE void prepare_mix_in() {
        const MixInRow row(model_, layer_);
        if (layer_ > 0) exchange_.begin();
        each_row([&](int b) {
            Share<kWidth> x[1];
            if (layer_ > 0) exchange_.receive(x, kRowX, b);
            else embed(x[0], model_, shared_.token[b]);
            row.apply(x[0], input(), stride(kWidthPadded), b, shared_.scratch);
        });
    }

    UNMUL_DEVICE void prepare_mix_out() {
        const MixOutRow row(model_, layer_);
        exchange_.begin();
        each_row([&](int b) {
            Share<kMixer> x[2];
            exchange_.receive(x, kRowGate, b);
            row.apply(x[0], x[1], input(), stride(kMixerPadded), b, shared_.scratch);
        });
    }

    UNMUL_DEVICE void prepare_channel_out() {
        const ChannelOutRow row(model_, layer_);
        exchange_.begin();
        each_row([&](int b) {
            Share<kHidden> z[1];
            exchange_.receive(z, kRowWide, b);
            row.apply(z[0], input(), stride(kHiddenPadded), b, shared_.scratch);
        });
    }

    // What finish() will read of output `channel` of sequence b.
    UNMUL_DEVICE void touch(int channel, int b) {
        if (product_ == kMixIn) {
            prefetch(state(b) + channel);
            prefetch(bounds() + channel);
        } else if (product_ == kMixOut || product_ == kChannelOut) {
            exchange_.touch(kRowX, b, channel);
        }
    }

    // What becomes of an output: y holds the products of its unit's panels.
    UNMUL_DEVICE void finish(int channel, int b, const float (&y)[kMostPanels]) {
        if (product_ == kMixIn) {
            if (channel < kMixer) recur(channel, b, y);
        } else if (product_ == kChannelIn) {
            if (channel < kHidden) exchange_.send(kRowWide, b, channel, silu(y[0]) * y[1]);
        } else if (product_ == kHead) {
            if (channel < kVocabulary) rate(channel, b, y[0]);
        } else if (channel < kWidth) {
            exchange_.send(kRowX, b, channel, residual(channel, b) + y[0]);
        }
    }

    // A block owns the same channels of o as of down, so what is added to is its own.
    UNMUL_DEVICE float residual(int channel, int b) const {
        const bool first = layer_ == 0 && product_ == kMixOut;
        return first ? embedding(model_, shared_.token[b], channel) : exchange_.sent(kRowX, b, channel);
    }

    UNMUL_DEVICE void recur(int channel, int b, const float (&y)[kMostPanels]) {
        const Gates gates(y[1], y[0], bounds()[channel]);
        float& h = state(b)[channel];
        const float after = gates.f * h + gates.i;
        if (shared_.active[b]) h = after;
        exchange_.send(kRowState, b, channel, silu(after));
        exchange_.send(kRowGate, b, channel, y[2]);
    }

    UNMUL_DEVICE void rate(int token, int b, float logit) {
        space_.logits[int64_t(b) * kVocabulary + token] = logit;
        if (call_.choices) atomicMax(&shared_.best[b], rank_key(logit, token));
    }

    // The next token of every text; false when all have ended.
    UNMUL_DEVICE bool choose() {
        block_barrier();
        if (threadIdx.x < call_.batch) atomicMax(space_.best + best_place(step_, threadIdx.x), shared_.best[threadIdx.x]);
        exchange_.meet();
        if (draws()) {
            draw();
        }
        bool goes_on = false;
        if (threadIdx.x < call_.batch) goes_on = extend(threadIdx.x);
        return block_any(goes_on);
    }

    // A text is drawn for by a team of blocks; a team has several texts where there are more of them than blocks.
    UNMUL_DEVICE void draw() {
        const int teams = min(call_.batch, int(gridDim.x)), size = gridDim.x / teams;
        const int number = blockIdx.x / size, rank = blockIdx.x % size;
        uint64_t* const sums = space_.sums + number * kTeamSums;
        uint32_t* const counter = space_.barrier + 2 * (1 + number);
        if (number < teams) {
            Team team(sums, counter, shared_.tally, rank, size);
            for (int b = number; b < call_.batch; b += teams) draw(team, b);
        }
        exchange_.meet();
        if (number >= teams || rank > 0) return;
        for (int k = threadIdx.x; k < kTeamSums; k += kThreads) sums[k] = 0;
        if (threadIdx.x == 0) *counter = 0;
    }
    UNMUL_DEVICE void draw(Team& team, int b) {
        const uint64_t largest = space_.best[best_place(step_, b)];
        if (!is_finite(largest) || call_.choices[b].temperature <= 0) return;
        Draw draw(team, space_.logits + int64_t(b) * kVocabulary, space_.weights + int64_t(b) * kVocabulary);
        const int32_t token = draw(largest, call_.choices[b], step_);
        if (threadIdx.x == 0) space_.next[b] = token;
    }

    UNMUL_DEVICE bool extend(int b) {
        const uint64_t largest = space_.best[best_place(step_, b)];
        int32_t token = is_finite(largest) ? token_of(largest) : -1;
        if (token >= 0 && call_.choices[b].temperature > 0) token = space_.next[b];
        if (!shared_.active[b]) token = -1;
        if (blockIdx.x == 0) {
            call_.written[step_ * call_.batch + b] = token;
            space_.best[best_place(step_ + 1, b)] = 0;
        }
        shared_.best[b] = 0;
        shared_.active[b] = token >= 0 && token != call_.end;
        if (token >= 0) shared_.token[b] = token;
        return shared_.active[b];
    }

    UNMUL_DEVICE bool draws() const {
        return block_any(threadIdx.x < call_.batch && call_.choices[threadIdx.x].temperature > 0);
    }
    UNMUL_DEVICE static int best_place(int step, int b) { return step % 2 * kMostSequences + b; }
    UNMUL_DEVICE float* state(int b) const { return call_.states + (int64_t(b) * kLayers + layer_) * kMixer; }
    UNMUL_DEVICE const float* bounds() const { return model_.bounds + layer_ * kMixer; }

    // Calls apply(b) where the row of sequence b is wanted, then makes the rows visible there.
    template <class Apply>
    UNMUL_DEVICE void each_row(Apply apply) {
        if (kFused) {
#pragma unroll 1
            for (int b = 0; b < call_.batch; ++b) apply(b);
            block_barrier();
        } else {
            for (int b = blockIdx.x; b < call_.batch; b += gridDim.x) apply(b);
            exchange_.meet();
        }
    }
    UNMUL_DEVICE Quantised input() const {
        return kFused ? Quantised{shared_.q, shared_.factor, shared_.sum, kSequences} : space_.input;
    }
    UNMUL_DEVICE static constexpr int stride(int columns) { return columns + (kFused ? kSharedStride : 0); }

    // The product over this block's units, in rounds whose sums fit in shared memory.
    UNMUL_DEVICE void multiply() {
        const Units units = units_of(product_);
        const int first = shared_.first[product_], last = shared_.last[product_], round = round_units(product_);
        for (int unit = first; unit < last; unit += round) {
            const int taken = min(round, last - unit);
            each_output(taken, [&](int k, int b) { touch(unit * kTileRows + k, b); });
            if (unit > first) block_barrier();  // the sums are zero again
            add_up(units, taken);
            block_barrier();
            each_output(taken, [&](int k, int b) { finish_one(units, unit, k, b); });
        }
    }

    template <class Function>
    UNMUL_DEVICE void each_output(int units, Function function) {
        const int rows = units * kTileRows;
        const float share = 1.0f / rows;
#pragma unroll 1
        for (int k = threadIdx.x; k < rows * call_.batch; k += kThreads) {
            const int b = int((k + 0.5f) * share);  // k / rows: both are small
            function(k - b * rows, b);
        }
    }

    // Output k of a round: its sums are read, and zeroed for the next round.
    UNMUL_DEVICE void finish_one(Units units, int unit, int k, int b) {
        const Quantised rows = input();
        float y[kMostPanels];
#pragma unroll
        for (int p = 0; p < kMostPanels; ++p) {
            if (p >= units.panels) continue;
            int32_t& sum = shared_.sums[((k / kTileRows * units.panels + p) * kTileRows + k % kTileRows) * kColumns + b];
            const int at = (product_ == kMixIn ? p : 0) * rows.tokens + b;
            y[p] = float(sum - rows.sum[at]) * rows.factor[at];
            sum = 0;
        }
        finish(unit * kTileRows + k, b, y);
    }

    // The sums of a round: each warp multiplies its tiles and adds what it has of a panel to the block's sums.
    UNMUL_DEVICE void add_up(Units units, int taken) {
        const int row_stride = stride(units.tiles * kTileColumns);
        // Rows that no sequence has are multiplied too, where there is memory for them; nobody reads their sums.
        const int token = kFused ? min(lane_index() / 4, call_.batch - 1) : lane_index() / 4;
        const int8_t* row = input().q + token * row_stride + 16 * (lane_index() % 4);
        const int tiles = taken * units.unit_tiles();
        const int end = warp_border(tiles, 1);
#pragma unroll 1
        for (int tile = warp_border(tiles, 0); tile < end;) {
            const int panel = panel_of(tile);
            const int stop = min(end, (panel + 1) * units.tiles);
            const int8_t* at = row + (tile - panel * units.tiles) * kTileColumns;
            if (product_ == kMixIn) at += panel % 3 * input().tokens * row_stride;
            TileSums<kGroups> sums;
#pragma unroll 1
            for (; tile < stop; ++tile, at += kTileColumns) sums.multiply(stream_.next(), at, row_stride);
            flush(panel, sums);
        }
    }

    // By a constant: a division by a number known only at run time takes long.
    UNMUL_DEVICE int panel_of(int tile) const {
        return product_ == kMixOut ? tile / kMixerTiles : product_ == kChannelOut ? tile / kHiddenTiles : tile / kWidthTiles;
    }

    UNMUL_DEVICE void flush(int panel, const TileSums<kGroups>& sums) {
#pragma unroll
        for (int t = 0; t < kGroups; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int b = 8 * t + lane_token(e);
                if (b < call_.batch) atomicAdd(&shared_.sums[(panel * kTileRows + lane_row(e)) * kColumns + b], sums.get(t, e));
            }
    }

    const Model& model_;
    const Workspace& space_;
    const Call& call_;
    Shared& shared_;
    Exchange exchange_;
    WeightStream stream_;
    int step_ = 0, layer_ = 0, product_ = 0;
};

UNMUL_KERNEL(kThreads) decode(const Model model, const Workspace space, const Call call) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
    begin(shared, space, call);
    Decoder(model, space, call, shared).run();
}
