/* Streams, on a card whose user logic sends back what it receives: each function, with success and with misuse. */
#include "check.h"

static void help_nothing(void *context) {
    (void)context;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    xdma_card *card = NULL;
    xdma_channel *sender = NULL, *none = NULL;
    xdma_receiver *receiver = NULL, *nothing = NULL;
    OK(xdma_card_open(argv[1], NULL, &card));
    xdma_card_info info;
    OK(xdma_card_get_info(card, &info));
    CHECK((info.h2c_streams & 1) && (info.c2h_streams & 1));

    OK(xdma_sender_open(card, 0, NULL, &sender));
    FAILS(XDMA_ERROR_TAKEN, xdma_sender_open(card, 0, NULL, &none));
    FAILS(XDMA_ERROR_NULL, xdma_sender_open(card, 0, NULL, NULL));
    FAILS(XDMA_ERROR_UNSUPPORTED, xdma_channel_open(card, XDMA_C2H, 0, NULL, &none));

    xdma_receiver_options options;
    OK(xdma_receiver_options_init(&options));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_options_init(NULL));
    options.buffer_size = 500;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_receiver_open(card, 0, &options, &receiver));
    options.buffer_size = 512;
    options.channel.size = 1;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_receiver_open(card, 0, &options, &receiver));
    OK(xdma_channel_options_init(&options.channel));
    options.buffers = 4;
    options.max_posted = 2;
    OK(xdma_receiver_open(card, 0, &options, &receiver));
    FAILS(XDMA_ERROR_TAKEN, xdma_receiver_open(card, 0, NULL, &nothing));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_open(NULL, 0, NULL, &nothing));

    /* A packet of 1000 bytes fills one buffer of 512 bytes and a part of another. */
    unsigned char packet[1000], seen[1000];
    for (size_t at = 0; at < sizeof packet; at++) {
        packet[at] = (unsigned char)(at * 3);
    }
    xdma_buffer *buffer = NULL;
    xdma_ticket ticket;
    xdma_received first, last, more;
    OK(xdma_buffer_allocate(card, sizeof packet, XDMA_H2C, &buffer));
    OK(xdma_buffer_write(buffer, 0, packet, sizeof packet));
    CHECK(xdma_receiver_poll(receiver, &first) == XDMA_PENDING);
    FAILS(XDMA_ERROR_TIMEOUT, xdma_receiver_wait(receiver, &first, XDMA_MILLISECONDS(10)));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_WAIT_AGAIN);
    OK(xdma_send(sender, buffer, 0, 512, 0, &ticket));
    OK(xdma_send(sender, buffer, 512, sizeof packet - 512, 1, &ticket));
    FAILS(XDMA_ERROR_RANGE, xdma_send(sender, buffer, 512, sizeof packet, 1, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_send(sender, NULL, 0, 64, 1, &ticket));
    OK(xdma_receiver_wait(receiver, &first, LIMIT));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_wait(receiver, NULL, LIMIT));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_poll(receiver, NULL));
    xdma_status status;
    while ((status = xdma_receiver_poll(receiver, &last)) == XDMA_PENDING) {
    }
    check_status(__LINE__, "xdma_receiver_poll", XDMA_OK, status);
    OK(xdma_wait(sender, ticket, LIMIT));
    CHECK(first.size == 512 && !first.ends_packet && last.size == 488 && last.ends_packet);
    OK(xdma_received_read(receiver, first, 0, seen, 512));
    OK(xdma_received_read(receiver, last, 0, seen + 512, 488));
    CHECK(memcmp(packet, seen, sizeof packet) == 0);
    FAILS(XDMA_ERROR_RANGE, xdma_received_read(receiver, last, 1, seen, 488));
    FAILS(XDMA_ERROR_NULL, xdma_received_read(receiver, last, 0, NULL, 488));

    OK(xdma_received_recycle(receiver, first));
    FAILS(XDMA_ERROR_FOREIGN, xdma_received_recycle(receiver, first));
    FAILS(XDMA_ERROR_FOREIGN, xdma_received_read(receiver, first, 0, seen, 1));
    more = last;
    more.receiver++;
    FAILS(XDMA_ERROR_FOREIGN, xdma_received_recycle(receiver, more));
    more = last;
    more.block += 1000;
    FAILS(XDMA_ERROR_FOREIGN, xdma_received_read(receiver, more, 0, seen, 1));
    OK(xdma_received_recycle(receiver, last));

    /* A packet that is larger than the FIFO of the user logic is in flight until the program receives it. */
    enum { LARGE = 128 << 10 };
    xdma_buffer *large = NULL;
    uint64_t total = 0;
    OK(xdma_buffer_allocate(card, LARGE, XDMA_H2C, &large));
    OK(xdma_send(sender, large, 0, LARGE, 1, &ticket));
    CHECK(xdma_poll(sender, ticket) == XDMA_PENDING);
    FAILS(XDMA_ERROR_TIMEOUT, xdma_wait(sender, ticket, XDMA_MILLISECONDS(10)));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_WAIT_AGAIN);
    FAILS(XDMA_ERROR_IN_FLIGHT, xdma_buffer_close(large));
    FAILS(XDMA_ERROR_IN_FLIGHT, xdma_buffer_write(large, 0, packet, 1));
    FAILS(XDMA_ERROR_IN_FLIGHT, xdma_buffer_sync(large));
    do {
        OK(xdma_receiver_wait(receiver, &more, LIMIT));
        OK(xdma_received_recycle(receiver, more));
        total += more.size;
    } while (!more.ends_packet);
    CHECK(total == LARGE);
    OK(xdma_wait(sender, ticket, LIMIT));
    OK(xdma_buffer_close(large));

    OK(xdma_receiver_detach(receiver));
    FAILS(XDMA_ERROR_THREAD, xdma_receiver_detach(receiver));
    FAILS(XDMA_ERROR_THREAD, xdma_receiver_poll(receiver, &more));
    OK(xdma_receiver_attach(receiver));
    FAILS(XDMA_ERROR_THREAD, xdma_receiver_attach(receiver));

    /* The last packet is expected, so the engine gets no buffer beyond those it has. */
    OK(xdma_receiver_set_max_posted(receiver, 0));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_set_max_posted(NULL, 0));
    OK(xdma_transfer(sender, buffer, 0, 64, 0, LIMIT));
    OK(xdma_receiver_wait(receiver, &first, LIMIT));
    CHECK(first.size == 64 && first.ends_packet);
    OK(xdma_send(sender, buffer, 0, 64, 1, &ticket));
    OK(xdma_receiver_wait(receiver, &last, LIMIT));
    OK(xdma_received_recycle(receiver, last));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_receiver_wait(receiver, &more, LIMIT));
    CHECK(strstr(xdma_last_error()->message, "max_posted"));

    OK(xdma_receiver_stop(receiver));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_stop(NULL));
    FAILS(XDMA_ERROR_ENGINE, xdma_receiver_set_max_posted(receiver, 1));
    OK(xdma_receiver_set_max_posted(receiver, 0));
    OK(xdma_receiver_recover(receiver));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_recover(NULL));
    OK(xdma_receiver_stop(receiver));
    FAILS(XDMA_ERROR_NULL, xdma_receiver_recover_with(receiver, NULL, NULL));
    FAILS(XDMA_ERROR_HANDLE, xdma_receiver_recover_with((xdma_receiver *)(void *)sender, help_nothing, NULL));
    OK(xdma_receiver_recover_with(receiver, help_nothing, NULL));
    FAILS(XDMA_ERROR_IN_USE, xdma_card_close(card));
    CHECK(strstr(xdma_last_error()->message, "1 of type xdma_receiver"));
    OK(xdma_receiver_close(receiver));
    FAILS(XDMA_ERROR_HANDLE, xdma_receiver_close(receiver));
    FAILS(XDMA_ERROR_HANDLE, xdma_received_recycle(receiver, first));
    FAILS(XDMA_ERROR_HANDLE, xdma_receiver_attach(receiver));
    OK(xdma_channel_close(sender));
    OK(xdma_buffer_close(buffer));
    OK(xdma_card_close(card));
    puts("passed");
    return 0;
}
