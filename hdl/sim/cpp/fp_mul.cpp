// The field product for FP_IMPL = DPI: Montgomery multiplication, operand scanning over 64-bit limbs.
#include <cstdint>
#include <cstring>

namespace {
constexpr uint64_t P[4] = {0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029};
// -P^-1 modulo 2^64.
constexpr uint64_t NINV = 0x87d20782e4866389;
}  // namespace

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
