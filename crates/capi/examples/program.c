/* Builds a program of many transfers once, and runs it again and again, with about one doorbell each. */
#include "example.h"

enum { CHUNKS = 64, CHUNK = 4096, RUNS = 100 };

int main(int argc, char **argv) {
    xdma_card *card;
    xdma_channel *h2c;
    xdma_buffer *buffer;
    xdma_program *program;
    EXPECT_OK(xdma_card_open(card_name(argc, argv), NULL, &card));
    EXPECT_OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &h2c));
    EXPECT_OK(xdma_buffer_allocate(card, CHUNKS * CHUNK, XDMA_H2C, &buffer));

    /* The chunks alternate between two places of the card. */
    xdma_segment segments[CHUNKS];
    for (uint64_t at = 0; at < CHUNKS; at++) {
        segments[at] = (xdma_segment){buffer, at * CHUNK, CHUNK, (at % 2 ? 0x40000 : 0) + at / 2 * CHUNK};
    }
    EXPECT_OK(xdma_program_build(h2c, segments, CHUNKS, &program));
    for (int run = 0; run < RUNS; run++) {
        xdma_ticket ticket;
        xdma_status status;
        EXPECT_OK(xdma_program_run(h2c, program, &ticket));
        while ((status = xdma_poll(h2c, ticket)) == XDMA_PENDING) {
            /* The thread can do other work. */
        }
        expect_ok(status, "xdma_poll");
    }
    xdma_channel_stats stats;
    EXPECT_OK(xdma_channel_get_stats(h2c, &stats));
    printf("%d runs of %d transfers: %llu bytes, %llu doorbells\n", RUNS, CHUNKS, (unsigned long long)stats.bytes,
           (unsigned long long)stats.doorbells);

    EXPECT_OK(xdma_program_close(program));
    EXPECT_OK(xdma_buffer_close(buffer));
    EXPECT_OK(xdma_channel_close(h2c));
    EXPECT_OK(xdma_card_close(card));
    return 0;
}
