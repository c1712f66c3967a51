// Everything between two products: the contract is in kernels.h. Included as lanes.h is, right after it.

float inverse_rms(const float* x, int padded_size, int size, float eps) {
    D16 squares = {};
    for (int k = 0; k < padded_size; k += kLanes) add_squares(squares, x + k);
    return 1.0f / __builtin_sqrtf(float(sum(squares) / size) + eps);
}

float normalise(const float* x, float factor, const float* gain, int padded_size, float* out) {
    F16 peak = fill(0);
    for (int k = 0; k < padded_size; k += kLanes) {
        const F16 n = load(x + k) * fill(factor) * load(gain + k);
        peak = larger_magnitude(peak, n);
        store(out + k, n);
    }
    return largest(peak);
}

Quantised quantise(const float* n, float largest_magnitude, int padded_size, int8_t* q) {
    // Two roundings, as the definition has them; NaN goes through, so that damage is seen in the logits.
    const float scale = 127.0f * (1.0f / (largest_magnitude < kSmallestMaximum ? kSmallestMaximum : largest_magnitude));
    Ints total[kRegisters] = {};
    for (int k = 0; k < padded_size; k += kLanes) {
        const F16 rounded = load(n + k) * fill(scale) + fill(kRounder);
        for (int r = 0; r < kRegisters; ++r) {
            const Ints whole = (Ints)rounded.part[r] - kRounderBits;
            total[r] += whole;
            reinterpret_cast<Bytes*>(q + k)[r] = __builtin_convertvector(whole, Bytes);
        }
    }
    int32_t sum = 0;
    for (Ints part : total)
        for (int lane = 0; lane < UNMUL_WIDTH; ++lane) sum += part[lane];
    return {scale, sum};
}

void recur(const Recurrence& a) {
    for (int k = a.columns.first; k < a.columns.last; k += kLanes) {
        const F16 bound = load(a.bound + k);
        const F16 rest = fill(1) - bound;
        F16 h = load(a.h + k);
        for (int t = 0; t < a.tokens; ++t) {
            const size_t at = size_t(t) * a.stride + k;
            const F16 f = bound + rest * sigmoid(load(a.f + at) * fill(a.f_factor[t]));
            const F16 i = silu(load(a.i + at) * fill(a.i_factor[t])) * (fill(1) - f);
            h = f * h + i;
            store(a.i + at, a.activated ? silu(h) : h);
        }
        store(a.h + k, h);
    }
}

void multiply(float* y, const float* x, int padded_size) {
    for (int k = 0; k < padded_size; k += kLanes) store(y + k, load(y + k) * load(x + k));
}

void swiglu(int32_t* gate, const int32_t* up, float factor, Range columns) {
    for (int k = columns.first; k < columns.last; k += kLanes)
        store(gate + k, silu(load(gate + k) * fill(factor)) * (load(up + k) * fill(factor)));
}

void add_scaled(float* x, const int32_t* y, float factor, Range columns) {
    for (int k = columns.first; k < columns.last; k += kLanes) store(x + k, load(x + k) + load(y + k) * fill(factor));
}

void dequantise(int32_t* y, float factor, Range columns) {
    for (int k = columns.first; k < columns.last; k += kLanes) store(y + k, load(y + k) * fill(factor));
}

void activate(int32_t* y, float factor, Range columns) {
    for (int k = columns.first; k < columns.last; k += kLanes) store(y + k, silu(load(y + k) * fill(factor)));
}

void exponentials(const float* x, float* y, int padded_size) {
    for (int k = 0; k < padded_size; k += kLanes) store(y + k, exponential(load(x + k)));
}

int32_t read(const uint8_t* from, size_t bytes) {
    Ints seen = {};
    for (size_t at = 0; at < bytes; at += kTileBytes) {
        prefetch(from + at);
        for (int r = 0; r < kRegisters; ++r) seen ^= reinterpret_cast<const Ints*>(from + at)[r];
    }
    int32_t mixed = 0;
    for (int lane = 0; lane < UNMUL_WIDTH; ++lane) mixed ^= seen[lane];
    return mixed;
}

constexpr Kernels table(const char* name, Grouping grouping, decltype(Kernels::product) product) {
    return {name,     grouping, product,    inverse_rms, normalise, quantise,     recur,
            multiply, swiglu,   add_scaled, dequantise,  activate,  exponentials, read};
}
