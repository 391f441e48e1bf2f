// Field arithmetic for FP_IMPL = DPI, in the domain [0, 2p).
#include <cstdint>
#include <cstring>

namespace {
constexpr uint64_t P[4] = {0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029};
// -P^-1 modulo 2^64.
constexpr uint64_t NINV = 0x87d20782e4866389;
constexpr uint64_t P2[4] = {0x7841182db0f9fa8e, 0x2f02d522d0e3951a, 0x70a08b6d0302b0bb, 0x60c89ce5c2634053};

// y = a + b or a - b; the carry or borrow.
inline uint64_t add(const uint64_t* a, const uint64_t* b, uint64_t* y) {
    unsigned __int128 c = 0;
    for (int i = 0; i < 4; i++) {
        c += static_cast<unsigned __int128>(a[i]) + b[i];
        y[i] = static_cast<uint64_t>(c);
        c >>= 64;
    }
    return static_cast<uint64_t>(c);
}
inline uint64_t sub(const uint64_t* a, const uint64_t* b, uint64_t* y) {
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned __int128 d = static_cast<unsigned __int128>(a[i]) - b[i] - borrow;
        y[i] = static_cast<uint64_t>(d);
        borrow = static_cast<uint64_t>(d >> 64) & 1;
    }
    return borrow;
}
}  // namespace

extern "C" void msm_fp_add(const uint32_t* a32, const uint32_t* b32, uint32_t* y) {
    uint64_t a[4], b[4], once[4], fixed[4];
    memcpy(a, a32, sizeof a);
    memcpy(b, b32, sizeof b);
    add(a, b, once);
    memcpy(y, sub(once, P2, fixed) ? once : fixed, sizeof once);
}

extern "C" void msm_fp_sub(const uint32_t* a32, const uint32_t* b32, uint32_t* y) {
    uint64_t a[4], b[4], once[4], fixed[4];
    memcpy(a, a32, sizeof a);
    memcpy(b, b32, sizeof b);
    const uint64_t negative = sub(a, b, once);
    add(once, P2, fixed);
    memcpy(y, negative ? fixed : once, sizeof once);
}

// Montgomery multiplication, operand scanning.
extern "C" void msm_fp_mul(const uint32_t* a32, const uint32_t* b32, uint32_t* y) {
    uint64_t a[4], b[4], t[6] = {};
    memcpy(a, a32, sizeof a);
    memcpy(b, b32, sizeof b);
    for (int i = 0; i < 4; i++) {
        unsigned __int128 c = 0;
        for (int j = 0; j < 4; j++) {
            c += static_cast<unsigned __int128>(a[j]) * b[i] + t[j];
            t[j] = static_cast<uint64_t>(c);
            c >>= 64;
        }
        c += t[4];
        t[4] = static_cast<uint64_t>(c);
        t[5] = static_cast<uint64_t>(c >> 64);
        const uint64_t m = t[0] * NINV;
        c = (static_cast<unsigned __int128>(m) * P[0] + t[0]) >> 64;
        for (int j = 1; j < 4; j++) {
            c += static_cast<unsigned __int128>(m) * P[j] + t[j];
            t[j - 1] = static_cast<uint64_t>(c);
            c >>= 64;
        }
        c += t[4];
        t[3] = static_cast<uint64_t>(c);
        t[4] = t[5] + static_cast<uint64_t>(c >> 64);
    }
    memcpy(y, t, 32);
}
