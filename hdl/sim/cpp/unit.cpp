// C interface of a test top with the ports clk, rst_n, in and out. `build.rs` defines MODEL, HEADER and NAME.
#include HEADER
#include <verilated.h>
#include <cstring>

namespace {
struct Sim {
    VerilatedContext context;
    MODEL top{&context};
};
}  // namespace

extern "C" {
void* NAME(new)() { return new Sim; }

void NAME(free)(void* raw) {
    Sim* sim = static_cast<Sim*>(raw);
    sim->top.final();
    delete sim;
}

// Runs one clock: drives `in` and samples `out` before the rising edge. Both are whole 32-bit words.
void NAME(step)(void* raw, const uint8_t* in, uint8_t* out, int rst_n) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    memcpy(&top.in[0], in, sizeof top.in);
    top.rst_n = rst_n;
    top.clk = 0;
    top.eval();
    memcpy(out, &top.out[0], sizeof top.out);
    top.clk = 1;
    top.eval();
}

// Returns the sizes of `in` and `out` in bytes.
void NAME(sizes)(void* raw, uint64_t* in, uint64_t* out) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    *in = sizeof top.in;
    *out = sizeof top.out;
}
}
