/* Sends a packet on an AXI-Stream channel and receives the answer of the user logic, here the same packet. */
#include "example.h"
#include <string.h>

/* A multiple of the widest data path, because some cards round the length of a packet up to whole beats. */
enum { SIZE = 47 * 64 };

int main(int argc, char **argv) {
    xdma_card *card;
    xdma_channel *sender;
    xdma_receiver *receiver;
    xdma_buffer *buffer;
    xdma_ticket ticket;
    unsigned char packet[SIZE], answer[SIZE];
    memset(packet, 7, SIZE);
    EXPECT_OK(xdma_card_open(card_name(argc, argv), NULL, &card));
    EXPECT_OK(xdma_sender_open(card, 0, NULL, &sender));
    EXPECT_OK(xdma_buffer_allocate(card, SIZE, XDMA_H2C, &buffer));
    EXPECT_OK(xdma_buffer_write(buffer, 0, packet, SIZE));

    /* The answer needs three buffers of 1 KiB. The engine gets no more than these, so that it is idle at the end. */
    xdma_receiver_options options;
    EXPECT_OK(xdma_receiver_options_init(&options));
    options.buffers = options.max_posted = 3;
    options.buffer_size = 1024;
    EXPECT_OK(xdma_receiver_open(card, 0, &options, &receiver));
    EXPECT_OK(xdma_receiver_set_max_posted(receiver, 0));

    EXPECT_OK(xdma_send(sender, buffer, 0, SIZE, 1, &ticket));
    uint64_t received = 0;
    xdma_received block = {0};
    while (!block.ends_packet) {
        EXPECT_OK(xdma_receiver_wait(receiver, &block, XDMA_SECONDS(5)));
        if (block.size > SIZE - received) {
            fprintf(stderr, "the answer is longer than the packet\n");
            return 1;
        }
        EXPECT_OK(xdma_received_read(receiver, block, 0, answer + received, block.size));
        EXPECT_OK(xdma_received_recycle(receiver, block));
        received += block.size;
    }
    EXPECT_OK(xdma_wait(sender, ticket, XDMA_SECONDS(5)));
    int same = received == SIZE && memcmp(packet, answer, SIZE) == 0;
    printf("a packet of %d bytes and its answer: %s\n", SIZE, same ? "equal" : "DIFFERENT");

    EXPECT_OK(xdma_receiver_close(receiver));
    EXPECT_OK(xdma_channel_close(sender));
    EXPECT_OK(xdma_buffer_close(buffer));
    EXPECT_OK(xdma_card_close(card));
    return same ? 0 : 1;
}
