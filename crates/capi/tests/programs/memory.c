/* Cards, buffers, channels, programs and interrupts, on two memory-mapped cards: each function, with success and with misuse. */
#include "check.h"
#include <poll.h>

static char name[256], other_name[256];

static void errors(void) {
    CHECK(xdma_last_error()->status == XDMA_OK);
    CHECK(strcmp(xdma_last_error()->message, "") == 0);
    CHECK(strcmp(xdma_status_name(XDMA_ERROR_TIMEOUT), "XDMA_ERROR_TIMEOUT") == 0);
    CHECK(strcmp(xdma_status_name(12345), "unknown status") == 0);
    CHECK(strcmp(xdma_version(), "0.1.0") == 0);
    FAILS(XDMA_ERROR_NULL, xdma_card_close(NULL));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_CORRECT);
    CHECK(strstr(xdma_last_error()->message, "card handle is NULL"));
}

static xdma_card *cards(void) {
    xdma_card *card = NULL, *second = NULL;
    xdma_card_options options;
    OK(xdma_card_options_init(&options));
    FAILS(XDMA_ERROR_NULL, xdma_card_options_init(NULL));
    CHECK(options.size == sizeof options && options.user_bar == -1);

    FAILS(XDMA_ERROR_NULL, xdma_card_open(NULL, NULL, &card));
    FAILS(XDMA_ERROR_NULL, xdma_card_open(name, NULL, NULL));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_card_open("no card", NULL, &card));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_card_open("\xff\xfe", NULL, &card));
    FAILS(XDMA_ERROR_NOT_FOUND, xdma_card_open("unix:/nowhere/card.sock", NULL, &card));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_PREPARE_HOST);
    options.size = 3;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_card_open(name, &options, &card));
    OK(xdma_card_options_init(&options));
    options.pages = 77;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_card_open(name, &options, &card));
    options.pages = XDMA_PAGES_4K;
    options.mode = 77;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_card_open(name, &options, &card));
    CHECK(card == NULL);

    options.mode = XDMA_MODE_AUTO;
    options.inspect_only = 1;
    OK(xdma_card_open(name, &options, &card));
    xdma_channel *channel = NULL;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_channel_open(card, XDMA_H2C, 0, NULL, &channel));
    OK(xdma_card_close(card));
    FAILS(XDMA_ERROR_HANDLE, xdma_card_close(card));
    FAILS(XDMA_ERROR_HANDLE, xdma_card_close((xdma_card *)(void *)&options));

    OK(xdma_card_open(name, NULL, &card));
    FAILS(XDMA_ERROR_TAKEN, xdma_card_open(name, NULL, &second));
    return card;
}

static void descriptions(xdma_card *card) {
    xdma_card_info info;
    OK(xdma_card_get_info(card, &info));
    FAILS(XDMA_ERROR_NULL, xdma_card_get_info(card, NULL));
    FAILS(XDMA_ERROR_NULL, xdma_card_get_info(NULL, &info));
    CHECK((info.h2c_channels & 1) && (info.c2h_channels & 1) && info.h2c_streams == 0 && info.c2h_streams == 0);
    CHECK(info.data_width >= 8 && info.interrupts != XDMA_INTERRUPTS_NONE && info.user_bar >= 0);
    if (info.interrupt_bar == -1) {
        CHECK(info.user_offset == 0 && info.user_bar != info.register_bar);
    } else {
        /* AWS F2: the engine's registers and the logic's share BAR0, and the shell's interrupt block is in BAR2. */
        CHECK(info.interrupt_bar == 2 && info.register_bar == 0 && info.user_bar == 0 && info.user_offset == 0x10000);
    }

    char text[4096], small[8];
    size_t length = 0;
    OK(xdma_card_describe(card, text, sizeof text, &length));
    CHECK(strlen(text) == length && strstr(text, "XDMA in BAR"));
    OK(xdma_card_describe(card, small, sizeof small, NULL));
    CHECK(strlen(small) == sizeof small - 1 && strncmp(small, text, sizeof small - 1) == 0);
    OK(xdma_card_describe(card, NULL, 0, &length));
    FAILS(XDMA_ERROR_NULL, xdma_card_describe(card, NULL, 8, &length));
    FAILS(XDMA_ERROR_HANDLE, xdma_card_describe((xdma_card *)(void *)text, text, sizeof text, &length));

    uint64_t bytes = 1;
    OK(xdma_card_get_quarantined(card, &bytes));
    CHECK(bytes == 0);
    FAILS(XDMA_ERROR_NULL, xdma_card_get_quarantined(card, NULL));
}

static void registers(xdma_card *card) {
    uint64_t size = 0;
    uint32_t value = 0;
    OK(xdma_user_size(card, &size));
    CHECK(size >= 0x1000);
    FAILS(XDMA_ERROR_NULL, xdma_user_size(card, NULL));
    OK(xdma_user_write(card, 0x10, 0xcafe));
    OK(xdma_user_read(card, 0x10, &value));
    CHECK(value == 0xcafe);
    FAILS(XDMA_ERROR_RANGE, xdma_user_read(card, 0x11, &value));
    FAILS(XDMA_ERROR_RANGE, xdma_user_read(card, 0xfffffffc, &value));
    FAILS(XDMA_ERROR_NULL, xdma_user_read(card, 0x10, NULL));
    FAILS(XDMA_ERROR_RANGE, xdma_user_write(card, 0x12, 0));
    FAILS(XDMA_ERROR_NULL, xdma_user_write(NULL, 0x10, 0));
}

static void buffers(xdma_card *card) {
    xdma_buffer *buffer = NULL;
    xdma_buffer_info info;
    char bytes[16] = "0123456789abcde";
    void *data = NULL;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_allocate(card, 0, XDMA_H2C, &buffer));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_allocate(card, 64, 2, &buffer));
    FAILS(XDMA_ERROR_NULL, xdma_buffer_allocate(card, 64, XDMA_H2C, NULL));
    FAILS(XDMA_ERROR_MEMORY, xdma_buffer_allocate(card, UINT64_MAX, XDMA_H2C, &buffer));
    OK(xdma_buffer_allocate(card, 8192, XDMA_H2C, &buffer));
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_allocate((xdma_card *)(void *)buffer, 64, XDMA_H2C, &buffer));
    CHECK(strstr(xdma_last_error()->message, "xdma_buffer"));

    OK(xdma_buffer_get_info(buffer, &info));
    CHECK(info.size == 8192 && info.staged == 0 && !info.registered && info.direction == XDMA_H2C);
    FAILS(XDMA_ERROR_NULL, xdma_buffer_get_info(buffer, NULL));
    OK(xdma_buffer_get_data(buffer, &data));
    CHECK(data != NULL && ((uintptr_t)data & 63) == 0);
    FAILS(XDMA_ERROR_NULL, xdma_buffer_get_data(buffer, NULL));

    OK(xdma_buffer_write(buffer, 3, bytes, sizeof bytes));
    CHECK(memcmp((char *)data + 3, bytes, sizeof bytes) == 0);
    FAILS(XDMA_ERROR_RANGE, xdma_buffer_write(buffer, 8190, bytes, sizeof bytes));
    FAILS(XDMA_ERROR_RANGE, xdma_buffer_write(buffer, UINT64_MAX, bytes, sizeof bytes));
    FAILS(XDMA_ERROR_NULL, xdma_buffer_write(buffer, 0, NULL, 1));
    memset(bytes, 0, sizeof bytes);
    OK(xdma_buffer_read(buffer, 3, bytes, sizeof bytes));
    CHECK(strcmp(bytes, "0123456789abcde") == 0);
    FAILS(XDMA_ERROR_RANGE, xdma_buffer_read(buffer, 8192, bytes, 1));
    FAILS(XDMA_ERROR_NULL, xdma_buffer_read(buffer, 0, NULL, 1));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_write(buffer, 0, (char *)data + 1, 8));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_read(buffer, 8, data, 16));
    OK(xdma_buffer_sync(buffer));
    FAILS(XDMA_ERROR_NULL, xdma_buffer_sync(NULL));

    FAILS(XDMA_ERROR_IN_USE, xdma_card_close(card));
    CHECK(strstr(xdma_last_error()->message, "1 of type xdma_buffer"));
    OK(xdma_buffer_close(buffer));
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_close(buffer));
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_write(buffer, 0, bytes, 1));
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_read(buffer, 0, bytes, 1));
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_get_data(buffer, &data));

    /* The slot is used again, and the old handle is not valid for the new buffer. */
    xdma_buffer *second = NULL;
    OK(xdma_buffer_allocate(card, 64, XDMA_C2H, &second));
    CHECK(second != buffer);
    FAILS(XDMA_ERROR_HANDLE, xdma_buffer_sync(buffer));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_write(second, 0, bytes, 1));
    OK(xdma_buffer_close(second));
}

static void transfers(xdma_card *card, xdma_card *other) {
    xdma_channel *h2c = NULL, *c2h = NULL, *wrong = NULL;
    xdma_channel_options options;
    OK(xdma_channel_options_init(&options));
    FAILS(XDMA_ERROR_NULL, xdma_channel_options_init(NULL));
    options.wait = 9;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_channel_open(card, XDMA_H2C, 0, &options, &h2c));
    options.wait = XDMA_WAIT_HYBRID;
    options.ring = 9;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_channel_open(card, XDMA_H2C, 0, &options, &h2c));
    options.ring = XDMA_RING_CHAIN;
    options.interrupt = 1;
    OK(xdma_channel_open(card, XDMA_H2C, 0, &options, &h2c));
    OK(xdma_channel_open(card, XDMA_C2H, 0, NULL, &c2h));
    FAILS(XDMA_ERROR_TAKEN, xdma_channel_open(card, XDMA_C2H, 0, NULL, &wrong));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_channel_open(card, XDMA_C2H, 9, NULL, &wrong));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_channel_open(card, 5, 0, NULL, &wrong));
    FAILS(XDMA_ERROR_NULL, xdma_channel_open(card, XDMA_C2H, 1, NULL, NULL));
    FAILS(XDMA_ERROR_UNSUPPORTED, xdma_sender_open(card, 1, NULL, &wrong));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_attach(h2c));
    OK(xdma_channel_detach(h2c));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_detach(h2c));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_check(h2c));
    OK(xdma_channel_attach(h2c));
    FAILS(XDMA_ERROR_NULL, xdma_channel_attach(NULL));
    FAILS(XDMA_ERROR_HANDLE, xdma_channel_attach((xdma_channel *)(void *)card));

    xdma_buffer *source = NULL, *sink = NULL, *foreign = NULL;
    OK(xdma_buffer_allocate(card, 8192, XDMA_H2C, &source));
    OK(xdma_buffer_allocate(card, 8192, XDMA_C2H, &sink));
    OK(xdma_buffer_allocate(other, 8192, XDMA_H2C, &foreign));
    void *data = NULL;
    OK(xdma_buffer_get_data(source, &data));
    for (int at = 0; at < 8192; at++) {
        ((unsigned char *)data)[at] = (unsigned char)(at * 7);
    }

    xdma_ticket ticket = {0, 0}, back;
    OK(xdma_submit(h2c, source, 0, 8192, 0x1000, &ticket));
    OK(xdma_wait(h2c, ticket, LIMIT));
    OK(xdma_poll(h2c, ticket));
    OK(xdma_submit(c2h, sink, 0, 8192, 0x1000, &back));
    while (xdma_poll(c2h, back) == XDMA_PENDING) {
    }
    OK(xdma_poll(c2h, back));
    unsigned char seen[8192];
    OK(xdma_buffer_read(sink, 0, seen, sizeof seen));
    CHECK(memcmp(seen, data, sizeof seen) == 0);
    OK(xdma_transfer(h2c, source, 64, 100, 0, LIMIT));

    FAILS(XDMA_ERROR_FOREIGN, xdma_poll(c2h, ticket));
    FAILS(XDMA_ERROR_FOREIGN, xdma_wait(c2h, ticket, LIMIT));
    FAILS(XDMA_ERROR_NULL, xdma_poll(NULL, ticket));
    FAILS(XDMA_ERROR_NULL, xdma_wait(NULL, ticket, 0));
    FAILS(XDMA_ERROR_FOREIGN, xdma_submit(h2c, sink, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_FOREIGN, xdma_submit(h2c, foreign, 0, 64, 0, &ticket));
    CHECK(strstr(xdma_last_error()->message, "another card"));
    FAILS(XDMA_ERROR_RANGE, xdma_submit(h2c, source, 8000, 8192, 0, &ticket));
    FAILS(XDMA_ERROR_RANGE, xdma_submit(h2c, source, UINT64_MAX, 8192, 0, &ticket));
    FAILS(XDMA_ERROR_RANGE, xdma_submit(h2c, source, 0, 64, UINT64_MAX, &ticket));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_submit(h2c, source, 0, 0, 0, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_submit(h2c, source, 0, 64, 0, NULL));
    FAILS(XDMA_ERROR_NULL, xdma_submit(h2c, NULL, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_submit(NULL, source, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_HANDLE, xdma_submit(h2c, (xdma_buffer *)(void *)h2c, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_HANDLE, xdma_submit((xdma_channel *)(void *)source, source, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_FOREIGN, xdma_transfer(c2h, source, 0, 64, 0, LIMIT));
    FAILS(XDMA_ERROR_UNSUPPORTED, xdma_send(h2c, source, 0, 64, 1, &ticket));

    /* A list of transfers, as one submission and as a program. */
    xdma_segment segments[2] = {{source, 0, 1024, 0x8000}, {source, 4096, 1024, 0x8400}};
    xdma_program *program = NULL;
    OK(xdma_submit_list(h2c, segments, 2, &ticket));
    OK(xdma_wait(h2c, ticket, LIMIT));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_submit_list(h2c, segments, 0, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_submit_list(h2c, NULL, 2, &ticket));
    OK(xdma_program_build(h2c, segments, 2, &program));
    for (int run = 0; run < 3; run++) {
        OK(xdma_program_run(h2c, program, &ticket));
        OK(xdma_wait(h2c, ticket, LIMIT));
    }
    xdma_program *second = NULL;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_program_build(h2c, segments, 0, &second));
    FAILS(XDMA_ERROR_FOREIGN, xdma_program_build(c2h, segments, 2, &second));
    FAILS(XDMA_ERROR_NULL, xdma_program_build(h2c, segments, 2, NULL));
    segments[1].buffer = foreign;
    FAILS(XDMA_ERROR_FOREIGN, xdma_program_build(h2c, segments, 2, &second));
    segments[1].buffer = NULL;
    FAILS(XDMA_ERROR_NULL, xdma_submit_list(h2c, segments, 2, &ticket));
    FAILS(XDMA_ERROR_FOREIGN, xdma_program_run(c2h, program, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_program_run(h2c, NULL, &ticket));
    FAILS(XDMA_ERROR_IN_USE, xdma_buffer_close(source));
    CHECK(strstr(xdma_last_error()->message, "xdma_program"));
    OK(xdma_program_close(program));
    FAILS(XDMA_ERROR_HANDLE, xdma_program_close(program));
    FAILS(XDMA_ERROR_HANDLE, xdma_program_run(h2c, program, &ticket));

    /* State, and what follows a stop. */
    xdma_channel_stats stats;
    char text[8192];
    OK(xdma_channel_check(h2c));
    FAILS(XDMA_ERROR_NULL, xdma_channel_check(NULL));
    OK(xdma_channel_get_stats(h2c, &stats));
    CHECK(stats.completed == 6 && stats.in_flight == 0 && stats.errors == 0);
    FAILS(XDMA_ERROR_NULL, xdma_channel_get_stats(h2c, NULL));
    OK(xdma_channel_describe(h2c, text, sizeof text, NULL));
    CHECK(strstr(text, "H2C"));
    FAILS(XDMA_ERROR_NULL, xdma_channel_describe(NULL, text, sizeof text, NULL));
    OK(xdma_channel_stop(h2c));
    FAILS(XDMA_ERROR_NULL, xdma_channel_stop(NULL));
    OK(xdma_channel_recover(h2c));
    FAILS(XDMA_ERROR_HANDLE, xdma_channel_recover((xdma_channel *)(void *)source));
    OK(xdma_transfer(h2c, source, 0, 64, 0, LIMIT));

    /* The interrupt of a channel, and its descriptor. */
    xdma_interrupt *interrupt = NULL, *none = NULL;
    int descriptor = -1;
    uint64_t count = 0;
    OK(xdma_interrupt_open_channel(card, XDMA_H2C, 0, &interrupt));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_interrupt_open_channel(card, XDMA_H2C, 9, &none));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_interrupt_open_channel(card, 9, 0, &none));
    OK(xdma_interrupt_get_fd(interrupt, &descriptor));
    OK(xdma_channel_rearm_interrupt(h2c));
    FAILS(XDMA_ERROR_NULL, xdma_channel_rearm_interrupt(NULL));
    OK(xdma_submit(h2c, source, 0, 4096, 0, &ticket));
    struct pollfd ready = {descriptor, POLLIN, 0};
    CHECK(poll(&ready, 1, 10000) == 1);
    OK(xdma_interrupt_take(interrupt, &count));
    CHECK(count > 0);
    OK(xdma_wait(h2c, ticket, LIMIT));
    OK(xdma_interrupt_close(interrupt));

    OK(xdma_channel_close(h2c));
    FAILS(XDMA_ERROR_HANDLE, xdma_channel_close(h2c));
    FAILS(XDMA_ERROR_HANDLE, xdma_submit(h2c, source, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_HANDLE, xdma_wait(h2c, ticket, LIMIT));
    OK(xdma_channel_close(c2h));
    OK(xdma_buffer_close(source));
    OK(xdma_buffer_close(sink));
    OK(xdma_buffer_close(foreign));
}

static void registered(xdma_card *card) {
    enum { SIZE = 5000 };
    unsigned char *own = malloc(SIZE), *received = calloc(1, SIZE);
    CHECK(own && received);
    memset(own, 1, SIZE);
    xdma_buffer *source = NULL, *sink = NULL, *none = NULL;
    FAILS(XDMA_ERROR_NULL, xdma_buffer_register(card, NULL, SIZE, XDMA_H2C, &none));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_register(card, own, 0, XDMA_H2C, &none));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_register(card, own, UINT64_MAX, XDMA_H2C, &none));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_register(card, own, SIZE, 7, &none));
    OK(xdma_buffer_register(card, own, SIZE, XDMA_H2C, &source));
    OK(xdma_buffer_register(card, received, SIZE, XDMA_C2H, &sink));
    xdma_buffer_info info;
    OK(xdma_buffer_get_info(source, &info));
    CHECK(info.registered && info.size == SIZE && info.staged <= SIZE);
    void *data = NULL;
    OK(xdma_buffer_get_data(source, &data));
    CHECK(data == own);

    xdma_channel *h2c = NULL, *c2h = NULL;
    OK(xdma_channel_open(card, XDMA_H2C, 1, NULL, &h2c));
    OK(xdma_channel_open(card, XDMA_C2H, 1, NULL, &c2h));
    memset(own, 42, SIZE);
    OK(xdma_buffer_sync(source));
    OK(xdma_buffer_write(source, 10, "abc", 3));
    CHECK(memcmp(own + 10, "abc", 3) == 0);
    FAILS(XDMA_ERROR_RANGE, xdma_buffer_write(source, SIZE, "abc", 3));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_buffer_write(source, 10, own + 8, 3));
    OK(xdma_transfer(h2c, source, 0, SIZE, 0x4000, LIMIT));
    OK(xdma_transfer(c2h, sink, 0, SIZE, 0x4000, LIMIT));
    OK(xdma_buffer_sync(sink));
    CHECK(memcmp(own, received, SIZE) == 0);
    unsigned char copy[100];
    OK(xdma_buffer_read(sink, 0, copy, sizeof copy));
    CHECK(memcmp(own, copy, sizeof copy) == 0);

    OK(xdma_channel_close(h2c));
    OK(xdma_channel_close(c2h));
    OK(xdma_buffer_close(source));
    OK(xdma_buffer_close(sink));
    free(own);
    free(received);
}

static void interrupts(xdma_card *card) {
    xdma_interrupt *interrupt = NULL, *none = NULL;
    uint64_t count = 7;
    int descriptor = -1;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_interrupt_open_user(card, 16, &none));
    FAILS(XDMA_ERROR_NULL, xdma_interrupt_open_user(card, 0, NULL));
    OK(xdma_interrupt_open_user(card, 3, &interrupt));
    OK(xdma_interrupt_take(interrupt, &count));
    CHECK(count == 0);
    FAILS(XDMA_ERROR_NULL, xdma_interrupt_take(interrupt, NULL));
    OK(xdma_interrupt_wait(interrupt, XDMA_MILLISECONDS(10), &count));
    CHECK(count == 0);
    OK(xdma_user_write(card, USER_IRQ_REGISTER, 1 << 3));
    OK(xdma_interrupt_wait(interrupt, LIMIT, &count));
    CHECK(count >= 1);
    FAILS(XDMA_ERROR_NULL, xdma_interrupt_wait(interrupt, 0, NULL));
    OK(xdma_interrupt_get_fd(interrupt, &descriptor));
    CHECK(descriptor >= 0);
    FAILS(XDMA_ERROR_NULL, xdma_interrupt_get_fd(interrupt, NULL));
    OK(xdma_user_write(card, USER_IRQ_REGISTER, 0));
    OK(xdma_interrupt_close(interrupt));
    FAILS(XDMA_ERROR_HANDLE, xdma_interrupt_close(interrupt));
    FAILS(XDMA_ERROR_HANDLE, xdma_interrupt_take(interrupt, &count));
    FAILS(XDMA_ERROR_HANDLE, xdma_interrupt_wait(interrupt, 0, &count));
}

static void recovery(xdma_card *card) {
    xdma_channel *h2c = NULL;
    xdma_buffer *source = NULL;
    xdma_ticket ticket;
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &h2c));
    OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &source));
    OK(xdma_submit(h2c, source, 0, 64, 0, &ticket));
    OK(xdma_wait(h2c, ticket, LIMIT));
    OK(xdma_card_recover(card));
    FAILS(XDMA_ERROR_NULL, xdma_card_recover(NULL));
    FAILS(XDMA_ERROR_ENGINE, xdma_transfer(h2c, source, 0, 64, 0, LIMIT));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_RECOVER);
    OK(xdma_channel_recover(h2c));
    OK(xdma_transfer(h2c, source, 0, 64, 0, LIMIT));
    xdma_card_info info;
    OK(xdma_card_get_info(card, &info));
    if (info.resettable) {
        OK(xdma_card_reset(card));
        OK(xdma_channel_recover(h2c));
    } else {
        xdma_status status = xdma_card_reset(card);
        EITHER(status, XDMA_ERROR_UNSUPPORTED, XDMA_ERROR_HOST);
    }
    FAILS(XDMA_ERROR_NULL, xdma_card_reset(NULL));
    OK(xdma_transfer(h2c, source, 0, 64, 0, LIMIT));
    OK(xdma_buffer_close(source));
    OK(xdma_channel_close(h2c));
}

/* Every function that takes a handle refuses this one. */
static void refused(uintptr_t number) {
    void *bad = (void *)number;
    uint64_t bytes;
    CHECK(xdma_card_get_quarantined(bad, &bytes) < 0);
    CHECK(xdma_buffer_sync(bad) < 0);
    CHECK(xdma_buffer_read(bad, 0, &bytes, 1) < 0);
    CHECK(xdma_channel_check(bad) < 0);
    CHECK(xdma_channel_attach(bad) < 0);
    CHECK(xdma_channel_detach(bad) < 0);
    CHECK(xdma_program_close(bad) < 0);
    CHECK(xdma_receiver_stop(bad) < 0);
    CHECK(xdma_receiver_attach(bad) < 0);
    CHECK(xdma_interrupt_take(bad, &bytes) < 0);
    CHECK(xdma_msm_recover(bad) < 0);
    CHECK(xdma_msm_attach(bad) < 0);
    CHECK(xdma_points_check(bad) < 0);
    CHECK(xdma_scalars_check(bad) < 0);
    CHECK(xdma_job_close(bad) < 0);
}

/* Numbers that are no handles: valid ones with one bit changed, addresses, and random ones. */
static void garbage(xdma_card *card) {
    xdma_channel *channel = NULL;
    xdma_buffer *buffer = NULL;
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &channel));
    OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &buffer));
    uintptr_t handles[] = {(uintptr_t)card, (uintptr_t)channel, (uintptr_t)buffer, 0, UINTPTR_MAX, (uintptr_t)&card};
    for (size_t at = 0; at < sizeof handles / sizeof *handles; at++) {
        for (int bit = 0; bit < 64; bit++) {
            refused(handles[at] ^ (uintptr_t)1 << bit);
        }
    }
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 1000; round++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        refused((uintptr_t)random);
        refused((uintptr_t)(random & 0x7fff)); /* empty slots */
    }
    OK(xdma_transfer(channel, buffer, 0, 64, 0, LIMIT));
    OK(xdma_buffer_close(buffer));
    OK(xdma_channel_close(channel));
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    snprintf(name, sizeof name, "%s", argv[1]);
    snprintf(other_name, sizeof other_name, "%s", argv[2]);
    errors();
    xdma_card *card = cards(), *other = NULL;
    OK(xdma_card_open(other_name, NULL, &other));
    descriptions(card);
    registers(card);
    buffers(card);
    transfers(card, other);
    registered(card);
    interrupts(card);
    recovery(card);
    garbage(card);
    OK(xdma_card_close(other));
    OK(xdma_card_close(card));
    puts("passed");
    return 0;
}
