/* The MSM client: each function, with success and with misuse. The points are the generator of BN254, so results can be compared. */
#include "check.h"

enum { COUNT = 100 };

/* The generator (1, 2) in Montgomery form modulo p: 2^256 mod p and 2^257 mod p, little-endian. */
static const unsigned char GENERATOR[64] = {
    0x9d, 0x0d, 0x8f, 0xc5, 0x8d, 0x43, 0x5d, 0xd3, 0x3d, 0x0b, 0xc7, 0xf5, 0x28, 0xeb, 0x78, 0x0a,
    0x2c, 0x46, 0x79, 0x78, 0x6f, 0xa3, 0x6e, 0x66, 0x2f, 0xdf, 0x07, 0x9a, 0xc1, 0x77, 0x0a, 0x0e,
    0x3a, 0x1b, 0x1e, 0x8b, 0x1b, 0x87, 0xba, 0xa6, 0x7b, 0x16, 0x8e, 0xeb, 0x51, 0xd6, 0xf1, 0x14,
    0x58, 0x8c, 0xf2, 0xf0, 0xde, 0x46, 0xdd, 0xcc, 0x5e, 0xbe, 0x0f, 0x34, 0x83, 0xef, 0x14, 0x1c,
};

/* The modulus p, little-endian. */
static const unsigned char MODULUS[32] = {
    0x47, 0xfd, 0x7c, 0xd8, 0x16, 0x8c, 0x20, 0x3c, 0x8d, 0xca, 0x71, 0x68, 0x91, 0x6a, 0x81, 0x97,
    0x5d, 0x58, 0x81, 0x81, 0xb6, 0x45, 0x50, 0xb8, 0x29, 0xa0, 0x31, 0xe1, 0x72, 0x4e, 0x64, 0x30,
};

/* A coordinate of a result is below 2p, so zero modulo p is 0 or p. */
static int is_zero(const unsigned char *bytes) {
    static const unsigned char zeros[32];
    return memcmp(bytes, zeros, 32) == 0 || memcmp(bytes, MODULUS, 32) == 0;
}

/* Prints a result for the test that runs this program. */
static void print_result(const xdma_msm_result *result) {
    printf("result ");
    for (size_t at = 0; at < sizeof result->point; at++) {
        printf("%02x", result->point[at]);
    }
    printf("\n");
}

/* The design's window for scalars, and its register that drops all data. */
#define SCALAR_WINDOW 0x10000000
#define CONTROL_REGISTER 0x220
#define CONTROL_FLUSH 2

/* An engine that is stuck, and what ends that. */
struct stuck {
    xdma_card *card;
    xdma_channel *channel;
    int calls;
};

static void flush(void *context) {
    struct stuck *stuck = context;
    if (stuck->calls++ == 0) {
        FAILS(XDMA_ERROR_BUSY, xdma_channel_check(stuck->channel));
        FAILS(XDMA_ERROR_BUSY, xdma_channel_attach(stuck->channel));
        FAILS(XDMA_ERROR_BUSY, xdma_channel_recover_with(stuck->channel, flush, context));
        FAILS(XDMA_ERROR_BUSY, xdma_channel_close(stuck->channel));
    }
    OK(xdma_user_write(stuck->card, CONTROL_REGISTER, CONTROL_FLUSH));
}

/* Scalars without points: the design accepts a part of them, then the engine waits until the design drops data. */
static void recovery_with_help(xdma_card *card) {
    struct stuck stuck = {card, NULL, 0};
    xdma_buffer *buffer = NULL;
    xdma_ticket ticket;
    OK(xdma_buffer_allocate(card, 1 << 20, XDMA_H2C, &buffer));
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &stuck.channel));
    OK(xdma_submit(stuck.channel, buffer, 0, 1 << 20, SCALAR_WINDOW, &ticket));
    FAILS(XDMA_ERROR_TIMEOUT, xdma_wait(stuck.channel, ticket, XDMA_MILLISECONDS(20)));
    FAILS(XDMA_ERROR_TIMEOUT, xdma_channel_settle(stuck.channel, XDMA_MILLISECONDS(1)));
    FAILS(XDMA_ERROR_IN_FLIGHT, xdma_buffer_close(buffer));
    FAILS(XDMA_ERROR_NULL, xdma_channel_recover_with(stuck.channel, NULL, NULL));
    FAILS(XDMA_ERROR_HANDLE, xdma_channel_recover_with((xdma_channel *)(void *)card, flush, &stuck));
    CHECK(stuck.calls == 0);
    OK(xdma_channel_recover_with(stuck.channel, flush, &stuck));
    CHECK(stuck.calls > 0);
    OK(xdma_channel_check(stuck.channel));
    OK(xdma_buffer_close(buffer));
    OK(xdma_channel_close(stuck.channel));
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    xdma_card *card = NULL, *other = NULL;
    OK(xdma_card_open(argv[1], NULL, &card));
    OK(xdma_card_open(argv[2], NULL, &other));

    xdma_msm *msm = NULL, *none = NULL;
    xdma_msm_options options;
    OK(xdma_msm_options_init(&options));
    FAILS(XDMA_ERROR_NULL, xdma_msm_options_init(NULL));
    options.chunk = 3;
    FAILS(XDMA_ERROR_ARGUMENT, xdma_msm_open(card, &options, &msm));
    options.chunk = 64;
    FAILS(XDMA_ERROR_UNSUPPORTED, xdma_msm_open(other, &options, &msm));
    OK(xdma_msm_open(card, &options, &msm));
    FAILS(XDMA_ERROR_TAKEN, xdma_msm_open(card, NULL, &none));
    xdma_msm_design design;
    OK(xdma_msm_get_design(msm, &design));
    CHECK(design.chunk == 64 && design.tasks > 0 && design.max_pairs >= COUNT);
    FAILS(XDMA_ERROR_NULL, xdma_msm_get_design(msm, NULL));
    char text[1024];
    OK(xdma_msm_describe(msm, text, sizeof text, NULL));
    CHECK(strstr(text, "in the FIFOs"));
    FAILS(XDMA_ERROR_NULL, xdma_msm_describe(NULL, text, sizeof text, NULL));

    xdma_points *points = NULL, *foreign = NULL;
    unsigned char bytes[COUNT * 64];
    for (int at = 0; at < COUNT; at++) {
        memcpy(bytes + at * 64, GENERATOR, 64);
    }
    FAILS(XDMA_ERROR_NULL, xdma_points_allocate(card, COUNT, NULL));
    FAILS(XDMA_ERROR_MEMORY, xdma_points_allocate(card, (uint64_t)1 << 62, &points));
    OK(xdma_points_allocate(card, COUNT, &points));
    OK(xdma_points_allocate(other, COUNT, &foreign));
    OK(xdma_points_write(points, 0, bytes, COUNT));
    FAILS(XDMA_ERROR_RANGE, xdma_points_write(points, 1, bytes, COUNT));
    FAILS(XDMA_ERROR_RANGE, xdma_points_write(points, UINT64_MAX, bytes, COUNT));
    FAILS(XDMA_ERROR_NULL, xdma_points_write(points, 0, NULL, COUNT));
    OK(xdma_points_check(points));
    xdma_points *own = NULL;
    FAILS(XDMA_ERROR_NULL, xdma_points_register(card, NULL, COUNT, &own));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_points_register(card, bytes, 0, &own));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_points_register(card, bytes, UINT64_MAX, &own));
    static unsigned char kept[COUNT * 64];
    memcpy(kept, bytes, sizeof kept);
    OK(xdma_points_register(card, kept, COUNT, &own));
    OK(xdma_points_check(own));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_points_write(own, 0, bytes, COUNT));
    bytes[64 * 7] ^= 1;
    OK(xdma_points_write(points, 7, bytes + 64 * 7, 1));
    FAILS(XDMA_ERROR_DATA, xdma_points_check(points));
    CHECK(strstr(xdma_last_error()->message, "7"));
    bytes[64 * 7] ^= 1;
    OK(xdma_points_write(points, 7, bytes + 64 * 7, 1));

    xdma_scalars *scalars = NULL;
    void *data = NULL;
    unsigned char scalar[32];
    FAILS(XDMA_ERROR_ARGUMENT, xdma_scalars_allocate(card, COUNT, 5, &scalars));
    OK(xdma_scalars_allocate(card, COUNT, XDMA_SCALARS_CANONICAL, &scalars));
    OK(xdma_scalars_get_data(scalars, &data));
    FAILS(XDMA_ERROR_NULL, xdma_scalars_get_data(scalars, NULL));
    memset(data, 0, COUNT * 32);
    ((unsigned char *)data)[0] = 1;
    memset(scalar, 0xff, sizeof scalar);
    OK(xdma_scalars_write(scalars, 1, scalar, 1));
    FAILS(XDMA_ERROR_RANGE, xdma_scalars_write(scalars, COUNT, scalar, 1));
    FAILS(XDMA_ERROR_ARGUMENT, xdma_scalars_write(scalars, 0, (char *)data + 8, 2));
    FAILS(XDMA_ERROR_DATA, xdma_scalars_check(scalars));
    memset(scalar, 0, sizeof scalar);
    OK(xdma_scalars_write(scalars, 1, scalar, 1));
    OK(xdma_scalars_check(scalars));

    xdma_job *job = NULL, *nothing = NULL;
    FAILS(XDMA_ERROR_RANGE, xdma_msm_prepare(msm, points, 0, scalars, 0, COUNT + 1, &job));
    FAILS(XDMA_ERROR_FOREIGN, xdma_msm_prepare(msm, foreign, 0, scalars, 0, COUNT, &job));
    FAILS(XDMA_ERROR_NULL, xdma_msm_prepare(msm, NULL, 0, scalars, 0, COUNT, &job));
    FAILS(XDMA_ERROR_HANDLE, xdma_msm_prepare(msm, points, 0, (xdma_scalars *)(void *)points, 0, COUNT, &job));
    OK(xdma_msm_prepare(msm, points, 0, scalars, 0, COUNT, &job));

    /* 1 G, which the test that runs this program compares with the generator. */
    xdma_msm_ticket ticket, second;
    xdma_msm_result result;
    OK(xdma_msm_submit(msm, job, &ticket));
    FAILS(XDMA_ERROR_NULL, xdma_msm_submit(msm, NULL, &ticket));
    while (xdma_msm_poll_accepted(msm, ticket) == XDMA_PENDING) {
    }
    OK(xdma_msm_poll_accepted(msm, ticket));
    OK(xdma_msm_wait(msm, ticket, LIMIT, &result));
    CHECK(result.label == 0 && !is_zero(result.point + 64));
    print_result(&result);
    FAILS(XDMA_ERROR_LOST, xdma_msm_wait(msm, ticket, LIMIT, &result));
    FAILS(XDMA_ERROR_LOST, xdma_msm_poll(msm, ticket, &result));

    /* The same with points in memory of this program. */
    xdma_job *own_job = NULL;
    xdma_msm_result own_result;
    OK(xdma_msm_prepare(msm, own, 0, scalars, 0, COUNT, &own_job));
    OK(xdma_msm_submit(msm, own_job, &ticket));
    OK(xdma_msm_wait(msm, ticket, LIMIT, &own_result));
    CHECK(own_result.label == 1 && !is_zero(own_result.point + 64));
    print_result(&own_result);
    FAILS(XDMA_ERROR_IN_USE, xdma_points_close(own));
    OK(xdma_job_close(own_job));
    OK(xdma_points_close(own));
    FAILS(XDMA_ERROR_HANDLE, xdma_points_close(own));
    memset(kept, 0, sizeof kept);

    /* The scalars are written again, for the same job: 0 G is infinity. */
    memset(data, 0, COUNT * 32);
    OK(xdma_msm_submit(msm, job, &second));
    xdma_status status;
    while ((status = xdma_msm_poll(msm, second, &result)) == XDMA_PENDING) {
    }
    check_status(__LINE__, "xdma_msm_poll", XDMA_OK, status);
    CHECK(result.label == 2 && is_zero(result.point + 64));
    second.client++;
    FAILS(XDMA_ERROR_FOREIGN, xdma_msm_poll(msm, second, &result));
    FAILS(XDMA_ERROR_FOREIGN, xdma_msm_poll_accepted(msm, second));
    FAILS(XDMA_ERROR_NULL, xdma_msm_wait(msm, ticket, LIMIT, NULL));

    OK(xdma_msm_submit(msm, job, &ticket));
    OK(xdma_msm_recover(msm));
    FAILS(XDMA_ERROR_NULL, xdma_msm_recover(NULL));
    FAILS(XDMA_ERROR_LOST, xdma_msm_wait(msm, ticket, LIMIT, &result));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_RECOVER);
    OK(xdma_msm_set_label(msm, 4000000000u));
    FAILS(XDMA_ERROR_NULL, xdma_msm_set_label(NULL, 0));
    OK(xdma_msm_submit(msm, job, &ticket));
    OK(xdma_msm_wait(msm, ticket, LIMIT, &result));
    CHECK(result.label == 4000000000u);

    OK(xdma_msm_detach(msm));
    FAILS(XDMA_ERROR_THREAD, xdma_msm_detach(msm));
    FAILS(XDMA_ERROR_THREAD, xdma_msm_submit(msm, job, &ticket));
    OK(xdma_msm_attach(msm));
    FAILS(XDMA_ERROR_NULL, xdma_msm_attach(NULL));

    FAILS(XDMA_ERROR_IN_USE, xdma_points_close(points));
    FAILS(XDMA_ERROR_IN_USE, xdma_scalars_close(scalars));
    OK(xdma_job_close(job));
    FAILS(XDMA_ERROR_HANDLE, xdma_job_close(job));
    FAILS(XDMA_ERROR_HANDLE, xdma_msm_submit(msm, job, &ticket));
    OK(xdma_points_close(points));
    FAILS(XDMA_ERROR_HANDLE, xdma_points_check(points));
    OK(xdma_points_close(foreign));
    OK(xdma_scalars_close(scalars));
    FAILS(XDMA_ERROR_HANDLE, xdma_scalars_write(scalars, 0, scalar, 1));
    FAILS(XDMA_ERROR_HANDLE, xdma_scalars_close(scalars));
    FAILS(XDMA_ERROR_HANDLE, xdma_msm_prepare(msm, points, 0, scalars, 0, COUNT, &nothing));
    OK(xdma_msm_close(msm));
    FAILS(XDMA_ERROR_HANDLE, xdma_msm_close(msm));
    recovery_with_help(card);
    OK(xdma_card_close(other));
    OK(xdma_card_close(card));
    puts("passed");
    return 0;
}
