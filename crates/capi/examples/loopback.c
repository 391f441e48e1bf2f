/* Sends bytes to the card and back: once in memory that the library allocates, once in memory of this program. */
#include "example.h"
#include <string.h>

enum { SIZE = 64 << 10 };

int main(int argc, char **argv) {
    xdma_card *card;
    xdma_channel *h2c, *c2h;
    EXPECT_OK(xdma_card_open(card_name(argc, argv), NULL, &card));
    char text[2048];
    EXPECT_OK(xdma_card_describe(card, text, sizeof text, NULL));
    puts(text);
    EXPECT_OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &h2c));
    EXPECT_OK(xdma_channel_open(card, XDMA_C2H, 0, NULL, &c2h));

    /* Allocated memory is filled in place. */
    xdma_buffer *source, *sink;
    void *bytes;
    EXPECT_OK(xdma_buffer_allocate(card, SIZE, XDMA_H2C, &source));
    EXPECT_OK(xdma_buffer_get_data(source, &bytes));
    memset(bytes, 7, SIZE);
    xdma_ticket ticket;
    EXPECT_OK(xdma_submit(h2c, source, 0, SIZE, 0x1000, &ticket)); /* returns at once */
    EXPECT_OK(xdma_wait(h2c, ticket, XDMA_SECONDS(5)));

    /* Memory of this program is synchronised after the transfer, and belongs to it again once the buffer is closed. */
    unsigned char *own = aligned_alloc(4096, SIZE);
    if (!own) {
        return 1;
    }
    EXPECT_OK(xdma_buffer_register(card, own, SIZE, XDMA_C2H, &sink));
    EXPECT_OK(xdma_transfer(c2h, sink, 0, SIZE, 0x1000, XDMA_SECONDS(5)));
    EXPECT_OK(xdma_buffer_sync(sink));
    int same = memcmp(own, bytes, SIZE) == 0;
    EXPECT_OK(xdma_buffer_close(sink));
    free(own);
    printf("%d bytes to the card and back: %s\n", SIZE, same ? "equal" : "DIFFERENT");

    EXPECT_OK(xdma_buffer_close(source));
    EXPECT_OK(xdma_channel_close(h2c));
    EXPECT_OK(xdma_channel_close(c2h));
    EXPECT_OK(xdma_card_close(card));
    return same ? 0 : 1;
}
