/* Diagnosis: registers by name, counters, latencies and the log. Each function, with success and with misuse. */
#include "check.h"
#include <fcntl.h>
#include <unistd.h>

enum { SIZE = 1 << 16 };

static void registers(xdma_card *card) {
    uint64_t value = 0;
    OK(xdma_register_read(card, "h2c0", "identifier", &value));
    CHECK(value >> 16 == 0x1fc0);
    OK(xdma_register_read(card, "H2C0", "Status", &value));
    CHECK((value & 1) == 0); /* not busy */
    OK(xdma_register_read(card, "irq", "channel_vectors[1]", &value));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_register_read(card, "h2c0", "status_rc", &value));
    CHECK(strstr(xdma_last_error()->message, "clear"));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_register_read(card, "h2c0", "control_w1s", &value));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_register_read(card, "h2c0", "nothing", &value));
    CHECK(strstr(xdma_last_error()->message, "completed"));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_register_read(card, "h2c9", "status", &value));
    CHECK(strstr(xdma_last_error()->message, "sgdma_common"));
    FAILS(XDMA_ERROR_UNSUPPORTED, xdma_register_read(card, "msm", "ctrl", &value));
    FAILS(XDMA_ERROR_NULL, xdma_register_read(card, NULL, "status", &value));
    FAILS(XDMA_ERROR_NULL, xdma_register_read(card, "h2c0", NULL, &value));
    FAILS(XDMA_ERROR_NULL, xdma_register_read(card, "h2c0", "status", NULL));

    char text[4096];
    size_t length = 0;
    OK(xdma_registers_describe(card, "c2h0", text, sizeof text, &length));
    CHECK(strlen(text) == length && strstr(text, "c2h0 at 0x1000") && strstr(text, "identifier") && strstr(text, "target=1"));
    CHECK(strstr(text, "not read") && !strstr(text, "control_w1s"));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_registers_describe(card, "", text, sizeof text, NULL));
    FAILS(XDMA_ERROR_NULL, xdma_registers_describe(NULL, "c2h0", text, sizeof text, NULL));
}

static void measurements(xdma_card *card) {
    xdma_channel *channel = NULL;
    xdma_buffer *buffer = NULL;
    xdma_performance performance;
    xdma_latencies latencies;
    xdma_ticket ticket;
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &channel));
    OK(xdma_buffer_allocate(card, SIZE, XDMA_H2C, &buffer));
    OK(xdma_channel_get_latencies(channel, &latencies));
    CHECK(latencies.samples == 0 && latencies.median == 0 && latencies.longest == 0);
    OK(xdma_channel_start_monitor(channel));
    OK(xdma_submit(channel, buffer, 0, SIZE, 0, &ticket));
    OK(xdma_channel_settle(channel, LIMIT));
    OK(xdma_poll(channel, ticket));
    OK(xdma_channel_get_performance(channel, &performance));
    CHECK(performance.beats >= SIZE / 64 && performance.beats <= SIZE / 8 && performance.cycles > 0 && !performance.saturated);
    OK(xdma_channel_get_latencies(channel, &latencies));
    CHECK(latencies.samples > 0 && latencies.median > 0 && latencies.median <= latencies.percent_90);
    CHECK(latencies.percent_90 <= latencies.percent_99 && latencies.percent_99 <= latencies.longest);

    FAILS(XDMA_ERROR_NULL, xdma_channel_get_latencies(channel, NULL));
    FAILS(XDMA_ERROR_NULL, xdma_channel_get_performance(channel, NULL));
    FAILS(XDMA_ERROR_HANDLE, xdma_channel_start_monitor((xdma_channel *)(void *)buffer));
    FAILS(XDMA_ERROR_NULL, xdma_channel_settle(NULL, LIMIT));
    OK(xdma_channel_stop(channel));
    OK(xdma_channel_recover(channel));
    OK(xdma_buffer_close(buffer));
    OK(xdma_channel_close(channel));
}

/* Reads what a pipe has. */
static void drain(int descriptor, char *text, size_t size) {
    ssize_t count = read(descriptor, text, size - 1);
    text[count > 0 ? count : 0] = 0;
}

static void logs(const char *name) {
    char text[16384];
    int ends[2];
    xdma_card *card = NULL;
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    FAILS(XDMA_ERROR_ARGUMENT, xdma_log(6, ends[1]));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_log(XDMA_LOG_INFO, -1));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_log(XDMA_LOG_INFO, 12345));
    OK(xdma_log(XDMA_LOG_INFO, ends[1]));
    CHECK(close(ends[1]) == 0); /* the library has a descriptor of its own */
    OK(xdma_card_open(name, NULL, &card));
    measurements(card);
    drain(ends[0], text, sizeof text);
    CHECK(strstr(text, "INFO") && strstr(text, "recovered") && !strstr(text, "DEBUG"));
    OK(xdma_log(XDMA_LOG_OFF, -1));
    registers(card);
    OK(xdma_card_close(card));
    CHECK(read(ends[0], text, sizeof text) == 0); /* the library has closed its end */

    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    OK(xdma_log(XDMA_LOG_ERROR, ends[1]));
    OK(xdma_log(XDMA_LOG_TRACE, ends[1]));
    OK(xdma_card_open(name, NULL, &card));
    OK(xdma_card_close(card));
    drain(ends[0], text, sizeof text);
    CHECK(strstr(text, "DEBUG"));
    OK(xdma_log(XDMA_LOG_OFF, -1));
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    logs(argv[1]);
    puts("passed");
    return 0;
}
