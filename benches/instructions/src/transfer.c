/* The transfers of `comparison.rs` in C, on the chain ring, or on the credits ring with any argument. */
#include <xdma.h>

/* In `comparison.rs`, which is linked into the library. */
void bench_open(bool credits, xdma_channel **channel, xdma_buffer **buffer);
void bench_complete(void);

enum { WARM_UP = 3, ROUNDS = 100 };

/* Callgrind counts these two functions and what they call. The empty statements keep them from ending with a jump. */
__attribute__((noinline)) static xdma_status measured_submit(xdma_channel *channel, const xdma_buffer *buffer, uint64_t offset,
                                                             uint64_t size, uint64_t card_address, xdma_ticket *ticket) {
    xdma_status status = xdma_submit(channel, buffer, offset, size, card_address, ticket);
    __asm__ volatile("");
    return status;
}

__attribute__((noinline)) static xdma_status measured_wait(xdma_channel *channel, xdma_ticket ticket, uint64_t timeout) {
    xdma_status status = xdma_wait(channel, ticket, timeout);
    __asm__ volatile("");
    return status;
}

int main(int argc, char **argv) {
    (void)argv;
    xdma_channel *channel;
    xdma_buffer *buffer;
    bench_open(argc > 1, &channel, &buffer);
    for (int round = 0; round < WARM_UP + ROUNDS; round++) {
        int is_warm = round >= WARM_UP;
        xdma_ticket ticket;
        if ((is_warm ? measured_submit : xdma_submit)(channel, buffer, 0, 4096, 0x1000, &ticket)) {
            return 1;
        }
        bench_complete();
        if ((is_warm ? measured_wait : xdma_wait)(channel, ticket, XDMA_SECONDS(10))) {
            return 1;
        }
    }
    return 0;
}
