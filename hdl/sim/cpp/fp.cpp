// Field arithmetic for FP_IMPL = DPI, in the range [0, 2p). The simulation spends half of its time here, so the words are
// unrolled by hand, and the carries are written so that a compiler emits carry chains.
#include <cstdint>
#include <cstring>

namespace {
using u64 = uint64_t;
using u128 = unsigned __int128;

constexpr u64 P[4] = {0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029};
// -P^-1 modulo 2^64.
constexpr u64 NINV = 0x87d20782e4866389;

constexpr u128 wide(u64 high, u64 low) { return static_cast<u128>(high) << 64 | low; }
constexpr u128 P2_LOW = wide(0x2f02d522d0e3951a, 0x7841182db0f9fa8e);
constexpr u128 P2_HIGH = wide(0x60c89ce5c2634053, 0x70a08b6d0302b0bb);

// A 256-bit number, modulo 2^256.
struct Number {
    u128 low, high;
};

inline Number load(const uint32_t* from) {
    Number n;
    memcpy(&n.low, from, 16);
    memcpy(&n.high, from + 4, 16);
    return n;
}
inline void store(uint32_t* to, const Number& n) {
    memcpy(to, &n.low, 16);
    memcpy(to + 4, &n.high, 16);
}
inline Number add(const Number& a, const Number& b) {
    const u128 low = a.low + b.low;
    return {low, a.high + b.high + (low < a.low)};
}
inline Number sub(const Number& a, const Number& b) {
    return {a.low - b.low, a.high - b.high - (a.low < b.low)};
}
// Returns a if `which` is negative, else b; without a branch, which would be unpredictable.
inline Number choose(const Number& which, const Number& a, const Number& b) {
    const u128 mask = static_cast<u128>(static_cast<__int128>(which.high) >> 127);
    return {(a.low & mask) | (b.low & ~mask), (a.high & mask) | (b.high & ~mask)};
}
constexpr Number P2 = {P2_LOW, P2_HIGH};

// Returns the low half of a b + c + carry, which cannot overflow; the high half is the new carry.
inline u64 step(u64 a, u64 b, u64 c, u64& carry) {
    const u128 t = static_cast<u128>(a) * b + c + carry;
    carry = static_cast<u64>(t >> 64);
    return static_cast<u64>(t);
}
}  // namespace

// a - b and a + b - 2p fit in 256 signed bits, because a and b are below 2p.
extern "C" void msm_fp_add(const uint32_t* a, const uint32_t* b, uint32_t* y) {
    const Number sum = add(load(a), load(b)), less = sub(sum, P2);
    store(y, choose(less, sum, less));
}

extern "C" void msm_fp_sub(const uint32_t* a, const uint32_t* b, uint32_t* y) {
    const Number less = sub(load(a), load(b));
    store(y, choose(less, add(less, P2), less));
}

// Montgomery multiplication by operand scanning. Since 4p < 2^256, the sum has no more than five words.
extern "C" void msm_fp_mul(const uint32_t* a32, const uint32_t* b32, uint32_t* y) {
    u64 a[4], b[4];
    memcpy(a, a32, sizeof a);
    memcpy(b, b32, sizeof b);
    u64 t0 = 0, t1 = 0, t2 = 0, t3 = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        u64 high = 0, carry = 0;
        t0 = step(a[0], b[i], t0, high);
        t1 = step(a[1], b[i], t1, high);
        t2 = step(a[2], b[i], t2, high);
        t3 = step(a[3], b[i], t3, high);
        const u64 m = t0 * NINV;
        step(m, P[0], t0, carry);
        t0 = step(m, P[1], t1, carry);
        t1 = step(m, P[2], t2, carry);
        t2 = step(m, P[3], t3, carry);
        t3 = high + carry;
    }
    const u64 t[4] = {t0, t1, t2, t3};
    memcpy(y, t, sizeof t);
}
