// Sixteen floats as one value, held in as many registers of UNMUL_WIDTH floats as the instruction set needs.
//
// Included by the kernel files only, inside an unnamed namespace: each is compiled with its own flags, and a function
// shared by two of them could be linked from the one that this CPU cannot run.
// Compiled with -ffp-contract=off: a fused multiply-add on one machine only would change bits.

typedef float Floats __attribute__((vector_size(4 * UNMUL_WIDTH), may_alias));
typedef float HalfFloats __attribute__((vector_size(2 * UNMUL_WIDTH), may_alias));
typedef double Doubles __attribute__((vector_size(4 * UNMUL_WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * UNMUL_WIDTH), may_alias));
typedef int8_t Bytes __attribute__((vector_size(UNMUL_WIDTH), may_alias));

constexpr int kRegisters = kLanes / UNMUL_WIDTH;

struct F16 {
    Floats part[kRegisters];
};

#define UNMUL_INLINE static inline __attribute__((always_inline))

// Asks for the weights that are needed next but many. Into the second-level cache: the first has too few buffers for lines
// on their way from memory, and with two threads a token took a fifth longer.
UNMUL_INLINE void prefetch(const uint8_t* weights) { __builtin_prefetch(weights + kPrefetchBytes, 0, 2); }

UNMUL_INLINE Floats all(float value) { return Floats{} + value; }

UNMUL_INLINE F16 fill(float value) {
    F16 result;
    for (Floats& part : result.part) part = all(value);
    return result;
}

UNMUL_INLINE F16 load(const float* from) {
    F16 result;
    for (int r = 0; r < kRegisters; ++r) result.part[r] = reinterpret_cast<const Floats*>(from)[r];
    return result;
}

UNMUL_INLINE F16 load(const int32_t* from) {
    F16 result;
    for (int r = 0; r < kRegisters; ++r)
        result.part[r] = __builtin_convertvector(reinterpret_cast<const Ints*>(from)[r], Floats);
    return result;
}

UNMUL_INLINE void store(void* to, F16 value) {
    for (int r = 0; r < kRegisters; ++r) reinterpret_cast<Floats*>(to)[r] = value.part[r];
}

template <class Function>
UNMUL_INLINE F16 map(F16 a, Function function) {
    for (Floats& part : a.part) part = function(part);
    return a;
}

template <class Function>
UNMUL_INLINE F16 map(F16 a, F16 b, Function function) {
    for (int r = 0; r < kRegisters; ++r) a.part[r] = function(a.part[r], b.part[r]);
    return a;
}

UNMUL_INLINE F16 operator+(F16 a, F16 b) {
    return map(a, b, [](Floats x, Floats y) __attribute__((always_inline)) { return x + y; });
}
UNMUL_INLINE F16 operator-(F16 a, F16 b) {
    return map(a, b, [](Floats x, Floats y) __attribute__((always_inline)) { return x - y; });
}
UNMUL_INLINE F16 operator*(F16 a, F16 b) {
    return map(a, b, [](Floats x, Floats y) __attribute__((always_inline)) { return x * y; });
}
UNMUL_INLINE F16 operator/(F16 a, F16 b) {
    return map(a, b, [](Floats x, Floats y) __attribute__((always_inline)) { return x / y; });
}

// The larger of a >= 0 and |b|. Without signs, floats order as their bits do, and NaN comes after all.
UNMUL_INLINE F16 larger_magnitude(F16 a, F16 b) {
    return map(a, b, [](Floats x, Floats y) __attribute__((always_inline)) {
        const Ints magnitude = (Ints)y & 0x7fffffff;
        return (Floats)(magnitude > (Ints)x ? magnitude : (Ints)x);
    });
}

// Adding 1.5 * 2^23 rounds to a whole number, halves to even, and leaves it in the low bits.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

// Range reduction by ln 2 in two parts and a polynomial of degree 7 (Cephes, S. Moshier).
UNMUL_INLINE Floats exponential(Floats x) {
    x = x > all(88.0f) ? all(88.0f) : x;
    x = x < all(-87.0f) ? all(-87.0f) : x;
    const Floats rounded = x * 1.44269504088896341f + kRounder;
    const Floats n = rounded - kRounder;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Floats power = (Floats)(((Ints)rounded << 23) + 0x3f800000);
    return ((p * (r * r) + r) + 1.0f) * power;
}

UNMUL_INLINE F16 exponential(F16 x) {
    return map(x, [](Floats part) __attribute__((always_inline)) { return exponential(part); });
}

UNMUL_INLINE F16 sigmoid(F16 x) { return fill(1) / (fill(1) + exponential(fill(0) - x)); }

UNMUL_INLINE F16 silu(F16 x) { return x / (fill(1) + exponential(fill(0) - x)); }

// Sums of squares in float64: rounded once, so that the order of summation does not show.
struct D16 {
    Doubles part[2 * kRegisters];
};

UNMUL_INLINE void add_squares(D16& total, const float* from) {
    for (int r = 0; r < 2 * kRegisters; ++r) {
        const Doubles x = __builtin_convertvector(reinterpret_cast<const HalfFloats*>(from)[r], Doubles);
        total.part[r] += x * x;
    }
}

UNMUL_INLINE double sum(const D16& value) {
    alignas(64) double lane[kLanes];
    __builtin_memcpy(lane, value.part, sizeof lane);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
    return lane[0];
}

// The largest of 16 values >= 0, NaN if there is one.
UNMUL_INLINE float largest(F16 value) {
    alignas(64) float lane[kLanes];
    store(lane, value);
    float result = lane[0];
    for (float x : lane) result = x <= result || result != result ? result : x;
    return result;
}
