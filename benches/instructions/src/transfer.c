/* The transfers of `comparison.rs` in C, on the chain ring, or on the credits ring with any argument. */
#include <xdma.h>

/* In `comparison.rs`, which is linked into the library. */
void bench_open(bool credits, xdma_channel **channel, xdma_buffer **buffer);
void bench_complete(void);

enum { WARM_UP = 3, ROUNDS = 100 };

/* What a transfer needs: in memory, as the variables that the closures in Rust capture are. */
struct transfer {
    xdma_channel *channel;
    xdma_buffer *buffer;
    uint64_t size, card_address, limit;
    xdma_ticket ticket;
};

static inline xdma_status begin(struct transfer *t) {
    return xdma_submit(t->channel, t->buffer, 0, t->size, t->card_address, &t->ticket);
}

static inline xdma_status end(struct transfer *t) {
    return xdma_wait(t->channel, t->ticket, t->limit);
}

/* Callgrind counts these two functions and what they call. The empty statements keep them from ending with a jump. */
__attribute__((noinline)) static xdma_status measured_begin(struct transfer *t) {
    xdma_status status = begin(t);
    __asm__ volatile("");
    return status;
}

__attribute__((noinline)) static xdma_status measured_end(struct transfer *t) {
    xdma_status status = end(t);
    __asm__ volatile("");
    return status;
}

int main(int argc, char **argv) {
    (void)argv;
    struct transfer t = {.size = 4096, .card_address = 0x1000, .limit = XDMA_SECONDS(10)};
    bench_open(argc > 1, &t.channel, &t.buffer);
    for (int round = 0; round < WARM_UP + ROUNDS; round++) {
        int is_warm = round >= WARM_UP;
        if (is_warm ? measured_begin(&t) : begin(&t)) {
            return 1;
        }
        bench_complete();
        if (is_warm ? measured_end(&t) : end(&t)) {
            return 1;
        }
    }
    return 0;
}
