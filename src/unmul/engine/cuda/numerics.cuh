// Everything between two products, in float32 and in the order of csrc/kernels/elementwise.h: with -fmad=false both
// engines get the same bits. One block works on one row.
#pragma once

#include "shape.cuh"

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr float kSmallestMaximum = 1e-5f;

UNMUL_DEVICE int warp_index() { return threadIdx.x / 32; }
UNMUL_DEVICE int lane_index() { return threadIdx.x % 32; }

// Adding 1.5 * 2^23 rounds to a whole number, halves to even, and leaves it in the low bits.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

// csrc/kernels/lanes.h: range reduction by ln 2 in two parts and a polynomial of degree 7 (Cephes, S. Moshier).
UNMUL_DEVICE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    const float rounded = x * 1.44269504088896341f + kRounder;
    const float n = rounded - kRounder;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float power = __int_as_float((__float_as_int(rounded) << 23) + 0x3f800000);
    return ((p * (r * r) + r) + 1.0f) * power;
}

UNMUL_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
UNMUL_DEVICE float silu(float x) { return x / (1.0f + exponential(-x)); }

// The forget gate f and the input i of one channel; the recurrence is h = f * h + i.
struct Gates {
    float f, i;
    UNMUL_DEVICE Gates(float f_product, float i_product, float bound) {
        f = bound + (1.0f - bound) * sigmoid(f_product);
        i = silu(i_product) * (1.0f - f);
    }
};

UNMUL_DEVICE float widen(uint32_t bfloat16_bits) { return __int_as_float(int32_t(bfloat16_bits << 16)); }

// This thread's columns of a row, in groups of four.
template <int Columns>
struct Share {
    static constexpr int kGroups = ceil_div(padded(Columns) / 4, kThreads);
    float4 group[kGroups];

    UNMUL_DEVICE static int column(int g) { return 4 * (threadIdx.x + g * kThreads); }
    UNMUL_DEVICE static bool holds(int g) { return column(g) < padded(Columns); }

    UNMUL_DEVICE void load(const float* row) {
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
            group[g] = holds(g) ? *reinterpret_cast<const float4*>(row + column(g)) : float4{0, 0, 0, 0};
    }
    UNMUL_DEVICE void store(float* row) const {
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
            if (holds(g)) *reinterpret_cast<float4*>(row + column(g)) = group[g];
    }
};

template <int Columns>
struct GainShare {
    uint2 group[Share<Columns>::kGroups];

    UNMUL_DEVICE void load(const uint16_t* row) {
#pragma unroll
        for (int g = 0; g < Share<Columns>::kGroups; ++g)
            group[g] = Share<Columns>::holds(g) ? *reinterpret_cast<const uint2*>(row + Share<Columns>::column(g))
                                                : uint2{0, 0};
    }
    UNMUL_DEVICE float4 values(int g) const {
        return {widen(group[g].x), widen(group[g].x >> 16), widen(group[g].y), widen(group[g].y >> 16)};
    }
};

UNMUL_DEVICE float4 operator*(float4 a, float4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
UNMUL_DEVICE float4 operator*(float4 a, float b) { return {a.x * b, a.y * b, a.z * b, a.w * b}; }

// What the threads of a block tell each other; a slot is used again only after a barrier of the block.
struct Scratch {
    double squares[2][kWarps];
    uint32_t peak[3][kWarps];
    int32_t sum[3][kWarps];
};

UNMUL_DEVICE double square(float x) { return double(x) * double(x); }

// As a tree: additions in float64 take long, one after another.
template <int N>
UNMUL_DEVICE double tree_sum(const double* parts) {
    if constexpr (N == 1) return parts[0];
    else return tree_sum<N / 2>(parts) + tree_sum<N / 2>(parts + N / 2);
}

// 1 / sqrt(mean(x^2) + eps). Summed in float64 and rounded once, so that the order of adding does not show.
template <int Columns>
UNMUL_DEVICE float inverse_rms(const Share<Columns>& x, float eps, double (&partial)[kWarps]) {
    double squares = 0;
#pragma unroll
    for (const float4& v : x.group) squares += (square(v.x) + square(v.y)) + (square(v.z) + square(v.w));
    squares = warp_sum(squares);
    if (lane_index() == 0) partial[warp_index()] = squares;
    block_barrier();
    return 1.0f / sqrtf(float(tree_sum<kWarps>(partial) * (1.0 / Columns)) + eps);
}

template <int Columns>
UNMUL_DEVICE void normalise(Share<Columns>& x, float inverse, const GainShare<Columns>& gain) {
#pragma unroll
    for (int g = 0; g < Share<Columns>::kGroups; ++g) x.group[g] = x.group[g] * inverse * gain.values(g);
}

UNMUL_DEVICE uint32_t magnitude(float x) { return uint32_t(__float_as_int(x)) & 0x7fffffffu; }

// Without signs, floats order as their bits do, and NaN comes after all.
UNMUL_DEVICE uint32_t magnitude(float4 v) {
    return max(max(magnitude(v.x), magnitude(v.y)), max(magnitude(v.z), magnitude(v.w)));
}

UNMUL_DEVICE int32_t code(float scaled) { return __float_as_int(scaled + kRounder) - kRounderBits; }

UNMUL_DEVICE uint32_t bytes(int32_t a, int32_t b, int32_t c, int32_t d) {
    return (a & 255u) | (b & 255u) << 8 | (c & 255u) << 16 | (d & 255u) << 24;
}

// Where one row's codes go, for each of P projections.
template <int P>
struct Target {
    int8_t* q[P];
    float* factor[P];
    int32_t* sum[P];
    float scale[P];  // of the weights
};

// The inputs of P projections of one row: each normed with its own gain, and quantised.
template <int Columns, int P>
UNMUL_DEVICE void quantise(const Share<Columns>& x, const GainShare<Columns> (&gain)[P], const Target<P>& to, Scratch& scratch) {
    const float inverse = inverse_rms(x, kBitLinearEps, scratch.squares[1]);
#pragma unroll
    for (int p = 0; p < P; ++p) {
        uint32_t peak = 0;
#pragma unroll
        for (int g = 0; g < Share<Columns>::kGroups; ++g)
            peak = max(peak, magnitude(x.group[g] * inverse * gain[p].values(g)));
        peak = warp_max(peak);
        if (lane_index() == 0) scratch.peak[p][warp_index()] = peak;
    }
    block_barrier();
#pragma unroll
    for (int p = 0; p < P; ++p) {
        uint32_t peak = 0;
#pragma unroll
        for (uint32_t part : scratch.peak[p]) peak = max(peak, part);
        const float largest = __int_as_float(int32_t(peak));
        // Two roundings, as the definition has them; NaN goes through, so that damage is seen in the logits.
        const float scale = 127.0f * (1.0f / (largest < kSmallestMaximum ? kSmallestMaximum : largest));
        int32_t sum = 0;
#pragma unroll
        for (int g = 0; g < Share<Columns>::kGroups; ++g) {
            if (!Share<Columns>::holds(g)) continue;
            const float4 n = x.group[g] * inverse * gain[p].values(g) * scale;
            const int32_t a = code(n.x), b = code(n.y), c = code(n.z), d = code(n.w);
            *reinterpret_cast<uint32_t*>(to.q[p] + Share<Columns>::column(g)) = bytes(a, b, c, d);
            sum += a + b + c + d;
        }
        sum = warp_sum(sum);
        if (lane_index() == 0) scratch.sum[p][warp_index()] = sum;
        if (threadIdx.x == 0) *to.factor[p] = to.scale[p] / scale;
    }
    block_barrier();
#pragma unroll
    for (int p = 0; p < P; ++p) {
        if (threadIdx.x != p) continue;
        int32_t sum = 0;
#pragma unroll
        for (int32_t part : scratch.sum[p]) sum += part;
        *to.sum[p] = sum;
    }
}
