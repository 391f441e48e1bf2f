/* Waits for a transfer in an event loop: the interrupt of a channel is a file descriptor for poll, select and epoll. */
#include "example.h"
#include <poll.h>

int main(int argc, char **argv) {
    xdma_card *card;
    xdma_channel *h2c;
    xdma_channel_options options;
    xdma_interrupt *interrupt;
    xdma_buffer *buffer;
    xdma_ticket ticket;
    struct pollfd ready = {.events = POLLIN};
    EXPECT_OK(xdma_card_open(card_name(argc, argv), NULL, &card));
    EXPECT_OK(xdma_channel_options_init(&options));
    options.interrupt = 1;
    EXPECT_OK(xdma_channel_open(card, XDMA_H2C, 0, &options, &h2c));
    EXPECT_OK(xdma_interrupt_open_channel(card, XDMA_H2C, 0, &interrupt));
    EXPECT_OK(xdma_interrupt_get_fd(interrupt, &ready.fd));
    EXPECT_OK(xdma_buffer_allocate(card, 1 << 20, XDMA_H2C, &buffer));

    EXPECT_OK(xdma_submit(h2c, buffer, 0, 1 << 20, 0, &ticket));
    for (;;) {
        /* Enable the interrupt, then look for the completion, then sleep: no completion is missed. */
        EXPECT_OK(xdma_channel_rearm_interrupt(h2c));
        xdma_status status = xdma_poll(h2c, ticket);
        if (status != XDMA_PENDING) {
            expect_ok(status, "xdma_poll");
            break;
        }
        if (poll(&ready, 1, 5000) == 0) {
            fprintf(stderr, "no interrupt within 5 seconds\n");
            return 1;
        }
        uint64_t count;
        EXPECT_OK(xdma_interrupt_take(interrupt, &count));
    }
    puts("the transfer is finished");

    EXPECT_OK(xdma_interrupt_close(interrupt));
    EXPECT_OK(xdma_buffer_close(buffer));
    EXPECT_OK(xdma_channel_close(h2c));
    EXPECT_OK(xdma_card_close(card));
    return 0;
}
