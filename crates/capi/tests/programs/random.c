/* Random calls with random handles: open, closed, of the wrong type, of the other card, of another thread, NULL, and numbers that are no
 * handles. First one thread, whose calls depend only on the seed; then several. No call may crash, or return a status that does not exist,
 * and in the end everything can be closed. An argument after the two cards is the number of calls of each thread. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { HANDLES = 1024, BYTES = 8192, THREADS = 3, SEED = 20261130 };

enum kind { CARD, BUFFER, CHANNEL, PROGRAM, RECEIVER, INTERRUPT, MSM, POINTS, SCALARS, JOB, KINDS };

/* The handles of a thread, also those that were closed. Other threads use them too. */
struct list {
    _Atomic(void *) handles[HANDLES];
    atomic_size_t count;
};

struct state {
    uint64_t random;
    struct list lists[KINDS];
    xdma_ticket ticket;
    xdma_msm_ticket msm_ticket;
    xdma_received block;
    unsigned char bytes[BYTES];    /* for calls that copy */
    unsigned char kept[8][BYTES];  /* for memory that is registered; as static memory, it outlives every handle */
    size_t registered;
    long succeeded, failed;
};

static struct state states[THREADS];
static const char *names[2];
static long calls_of_thread = 5000;

static uint64_t next(struct state *s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random >> 3;
}

static uint64_t below(struct state *s, uint64_t limit) {
    return next(s) % limit;
}

/* Mostly small, sometimes a limit, sometimes anything. */
static uint64_t number(struct state *s) {
    static const uint64_t limits[] = {0, 1, 63, 64, 4095, 4096, BYTES, 1 << 20, INT64_MAX, UINT64_MAX};
    switch (below(s, 8)) {
    case 0:
        return limits[below(s, sizeof limits / sizeof *limits)];
    case 1:
        return next(s) << 3;
    default:
        return below(s, BYTES);
    }
}

/* The size or the offset of a transfer: mostly inside of a buffer. */
static uint64_t piece(struct state *s) {
    return below(s, 4) ? below(s, BYTES / 16) : number(s);
}

/* An option or an index: mostly valid. */
static uint32_t small(struct state *s, uint32_t valid) {
    return below(s, 12) ? (uint32_t)below(s, valid) : (uint32_t)next(s);
}

/* A time limit that is short, because some waits are for nothing. */
static uint64_t limit(struct state *s) {
    return below(s, XDMA_MICROSECONDS(50));
}

/* A handle for an argument of this kind: mostly one of the newest of the kind. */
static void *any(struct state *s, enum kind kind) {
    struct state *from = s;
    size_t newest = 3;
    switch (below(s, 16)) {
    case 0:
        return NULL;
    case 1:
        return (void *)(uintptr_t)next(s);
    case 2:
        kind = (enum kind)below(s, KINDS);
        break;
    case 3:
        from = &states[below(s, THREADS)];
        break;
    case 4:
        newest = HANDLES;
        break;
    }
    if (from->lists[kind].count == 0) {
        from = &states[below(s, THREADS)];
    }
    size_t count = from->lists[kind].count;
    return count ? from->lists[kind].handles[count - 1 - below(s, count < newest ? count : newest)] : NULL;
}

static void check_call(struct state *s, xdma_status status) {
    CHECK(status >= XDMA_ERROR_INTERNAL && status <= XDMA_PENDING);
    if (status == XDMA_ERROR_INTERNAL) {
        fprintf(stderr, "%s\n", xdma_last_error()->message);
        exit(1);
    }
    *(status == XDMA_OK ? &s->succeeded : &s->failed) += 1;
}

static void check_open(struct state *s, enum kind kind, xdma_status status, void *handle) {
    check_call(s, status);
    if (status == XDMA_OK) {
        struct list *list = &s->lists[kind];
        CHECK(handle && list->count < HANDLES);
        list->handles[list->count] = handle;
        list->count++;
    }
}

/* A result that is sometimes NULL. */
#define OUT(result) (below(s, 16) ? &(result) : NULL)
#define CALL(call) check_call(s, (call))
#define OPEN(kind, type, call) \
    do { \
        type *handle = NULL; \
        type **out = OUT(handle); \
        xdma_status status = (call); \
        check_open(s, kind, status, handle); \
    } while (0)

/* Bytes to copy, at most as many as there are. */
static size_t length(struct state *s) {
    return below(s, BYTES + 1);
}

static void call_card(struct state *s) {
    xdma_card_options options;
    uint64_t value;
    uint32_t word;
    size_t size;
    xdma_card_info info;
    switch (below(s, 16)) {
    case 0:
        if (below(s, 40) && any(s, CARD)) {
            break; /* Cards that are open already take time to refuse. */
        }
        OK(xdma_card_options_init(&options));
        options.pages = small(s, 2);
        options.size -= below(s, 16) == 0;
        options.inspect_only = below(s, 8) == 0;
        options.idle_limit = XDMA_MILLISECONDS(20);
        OPEN(CARD, xdma_card, xdma_card_open(below(s, 16) ? names[below(s, 2)] : NULL, &options, out));
        break;
    case 1:
        CALL(xdma_card_close(any(s, CARD)));
        break;
    case 2:
    case 3:
        CALL(xdma_card_get_info(any(s, CARD), OUT(info)));
        break;
    case 4:
        CALL(xdma_card_describe(any(s, CARD), (char *)s->bytes, length(s), OUT(size)));
        break;
    case 5:
        CALL(below(s, 4) ? xdma_card_get_quarantined(any(s, CARD), OUT(value)) : xdma_card_recover(any(s, CARD)));
        break;
    case 6:
        CALL(below(s, 4) ? xdma_user_size(any(s, CARD), OUT(value)) : xdma_card_reset(any(s, CARD)));
        break;
    case 7:
        CALL(xdma_user_read(any(s, CARD), (uint32_t)number(s), OUT(word)));
        break;
    case 8:
        CALL(xdma_user_write(any(s, CARD), (uint32_t)number(s), (uint32_t)next(s)));
        break;
    case 9:
        CALL(xdma_register_read(any(s, CARD), below(s, 4) ? "h2c0" : "irq", below(s, 4) ? "status" : "", OUT(value)));
        break;
    case 10:
        CALL(xdma_registers_describe(any(s, CARD), "c2h1", (char *)s->bytes, length(s), NULL));
        break;
    case 11:
        OPEN(INTERRUPT, xdma_interrupt, xdma_interrupt_open_user(any(s, CARD), small(s, 16), out));
        break;
    case 12:
        OPEN(INTERRUPT, xdma_interrupt, xdma_interrupt_open_channel(any(s, CARD), small(s, 2), small(s, 4), out));
        break;
    case 13:
        CALL(xdma_interrupt_wait(any(s, INTERRUPT), limit(s), OUT(value)));
        break;
    case 14:
        CALL(below(s, 2) ? xdma_interrupt_take(any(s, INTERRUPT), OUT(value)) : xdma_interrupt_get_fd(any(s, INTERRUPT), (int *)OUT(word)));
        break;
    case 15:
        CALL(xdma_interrupt_close(any(s, INTERRUPT)));
        break;
    }
}

static void call_buffer(struct state *s) {
    xdma_buffer_info info;
    void *data;
    size_t size = length(s);
    switch (below(s, 8)) {
    case 0:
    case 1:
        OPEN(BUFFER, xdma_buffer, xdma_buffer_allocate(any(s, CARD), below(s, 8) ? below(s, BYTES) : number(s), small(s, 2), out));
        break;
    case 2:
        if (s->registered < 8) {
            unsigned char *own = s->kept[s->registered++];
            OPEN(BUFFER, xdma_buffer, xdma_buffer_register(any(s, CARD), OUT(*own), size, small(s, 2), out));
        }
        break;
    case 3:
        CALL(xdma_buffer_get_info(any(s, BUFFER), OUT(info)));
        CALL(xdma_buffer_get_data(any(s, BUFFER), OUT(data)));
        break;
    case 4:
        CALL(xdma_buffer_write(any(s, BUFFER), number(s), OUT(s->bytes[0]), size));
        break;
    case 5:
        CALL(xdma_buffer_read(any(s, BUFFER), number(s), OUT(s->bytes[0]), size));
        break;
    case 6:
        CALL(xdma_buffer_sync(any(s, BUFFER)));
        break;
    case 7:
        CALL(xdma_buffer_close(any(s, BUFFER)));
        break;
    }
}

/* Changes a ticket, or a block, sometimes: C programs can do that, though they must not. */
static uint64_t tampered(struct state *s, uint64_t value) {
    switch (below(s, 16)) {
    case 0:
        return value + below(s, 3) - 1;
    case 1:
        return number(s);
    default:
        return value;
    }
}

static xdma_ticket ticket(struct state *s) {
    return (xdma_ticket){tampered(s, s->ticket.channel), tampered(s, s->ticket.sequence)};
}

static xdma_msm_ticket msm_ticket(struct state *s) {
    return (xdma_msm_ticket){tampered(s, s->msm_ticket.client), tampered(s, s->msm_ticket.sequence)};
}

static xdma_received block(struct state *s) {
    xdma_received changed = s->block;
    changed.receiver = tampered(s, changed.receiver);
    changed.block = tampered(s, changed.block);
    changed.size = (uint32_t)tampered(s, changed.size);
    return changed;
}

/* A callback that calls the library. */
static void help(void *context) {
    struct state *s = context;
    CALL(xdma_channel_stop(any(s, CHANNEL)));
    CALL(xdma_user_write(any(s, CARD), 0x10, 1));
}

static void call_channel(struct state *s) {
    xdma_channel_options options;
    xdma_channel_stats stats;
    xdma_latencies latencies;
    xdma_performance performance;
    switch (below(s, 24)) {
    case 0:
    case 1:
    case 2:
        OK(xdma_channel_options_init(&options));
        options.ring = small(s, 3);
        options.wait = small(s, 4);
        options.slots = small(s, 64);
        options.interrupt = below(s, 2);
        options.fixed_address = below(s, 8) == 0;
        OPEN(CHANNEL, xdma_channel,
             xdma_channel_open(any(s, CARD), small(s, 2), small(s, 4), below(s, 2) ? &options : NULL, out));
        break;
    case 3:
        OPEN(CHANNEL, xdma_channel, xdma_sender_open(any(s, CARD), small(s, 4), NULL, out));
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        CALL(xdma_submit(any(s, CHANNEL), any(s, BUFFER), piece(s), piece(s), piece(s), OUT(s->ticket)));
        break;
    case 8:
    case 9:
        CALL(xdma_poll(any(s, CHANNEL), ticket(s)));
        break;
    case 10:
        CALL(xdma_wait(any(s, CHANNEL), ticket(s), limit(s)));
        break;
    case 11:
        CALL(xdma_transfer(any(s, CHANNEL), any(s, BUFFER), piece(s), piece(s), piece(s), limit(s)));
        break;
    case 12:
        CALL(xdma_send(any(s, CHANNEL), any(s, BUFFER), piece(s), piece(s), (uint32_t)below(s, 2), OUT(s->ticket)));
        break;
    case 13:
        CALL(below(s, 2) ? xdma_channel_stop(any(s, CHANNEL)) : xdma_channel_settle(any(s, CHANNEL), limit(s)));
        break;
    case 14:
    case 15:
        CALL(xdma_channel_recover(any(s, CHANNEL)));
        break;
    case 16:
        CALL(xdma_channel_recover_with(any(s, CHANNEL), below(s, 8) ? help : NULL, s));
        break;
    case 17:
        CALL(below(s, 2) ? xdma_channel_check(any(s, CHANNEL)) : xdma_channel_rearm_interrupt(any(s, CHANNEL)));
        break;
    case 18:
        CALL(below(s, 2) ? xdma_channel_get_stats(any(s, CHANNEL), OUT(stats))
                         : xdma_channel_get_latencies(any(s, CHANNEL), OUT(latencies)));
        break;
    case 19:
        CALL(below(s, 2) ? xdma_channel_start_monitor(any(s, CHANNEL))
                         : xdma_channel_get_performance(any(s, CHANNEL), OUT(performance)));
        break;
    case 20:
        CALL(xdma_channel_describe(any(s, CHANNEL), (char *)s->bytes, length(s), NULL));
        break;
    case 21:
        CALL(xdma_channel_detach(any(s, CHANNEL)));
        break;
    case 22:
        CALL(xdma_channel_attach(any(s, CHANNEL)));
        break;
    case 23:
        CALL(xdma_channel_close(any(s, CHANNEL)));
        break;
    }
}

static void call_program(struct state *s) {
    xdma_segment segments[8];
    for (int at = 0; at < 8; at++) {
        segments[at] = (xdma_segment){any(s, BUFFER), number(s), number(s), number(s)};
        if (below(s, 4)) { /* mostly one that can be valid */
            segments[at] = (xdma_segment){at ? segments[0].buffer : segments[at].buffer, below(s, 64), 1 + below(s, 64), below(s, BYTES)};
        }
    }
    switch (below(s, 4)) {
    case 0:
        OPEN(PROGRAM, xdma_program, xdma_program_build(any(s, CHANNEL), OUT(segments[0]), below(s, 9), out));
        break;
    case 1:
        CALL(xdma_program_run(any(s, CHANNEL), any(s, PROGRAM), OUT(s->ticket)));
        break;
    case 2:
        CALL(xdma_submit_list(any(s, CHANNEL), OUT(segments[0]), below(s, 9), OUT(s->ticket)));
        break;
    case 3:
        CALL(xdma_program_close(any(s, PROGRAM)));
        break;
    }
}

static void call_receiver(struct state *s) {
    xdma_receiver_options options;
    switch (below(s, 9)) {
    case 0:
    case 1:
        OK(xdma_receiver_options_init(&options));
        options.buffers = small(s, 5);
        options.buffer_size = 64 * small(s, 16);
        options.max_posted = small(s, 5);
        OPEN(RECEIVER, xdma_receiver, xdma_receiver_open(any(s, CARD), small(s, 4), below(s, 2) ? &options : NULL, out));
        break;
    case 2:
        CALL(xdma_receiver_poll(any(s, RECEIVER), OUT(s->block)));
        break;
    case 3:
        CALL(xdma_receiver_wait(any(s, RECEIVER), OUT(s->block), limit(s)));
        break;
    case 4:
        CALL(xdma_received_read(any(s, RECEIVER), block(s), number(s), OUT(s->bytes[0]), length(s)));
        break;
    case 5:
        CALL(xdma_received_recycle(any(s, RECEIVER), block(s)));
        break;
    case 6:
        CALL(xdma_receiver_set_max_posted(any(s, RECEIVER), small(s, 5)));
        CALL(below(s, 2) ? xdma_receiver_detach(any(s, RECEIVER)) : xdma_receiver_attach(any(s, RECEIVER)));
        break;
    case 7:
        CALL(xdma_receiver_stop(any(s, RECEIVER)));
        CALL(below(s, 2) ? xdma_receiver_recover(any(s, RECEIVER)) : xdma_receiver_recover_with(any(s, RECEIVER), help, s));
        break;
    case 8:
        CALL(xdma_receiver_close(any(s, RECEIVER)));
        break;
    }
}

static void call_msm(struct state *s) {
    xdma_msm_options options;
    xdma_msm_design design;
    xdma_msm_result result;
    void *data;
    size_t size = length(s);
    switch (below(s, 14)) {
    case 0:
        OK(xdma_msm_options_init(&options));
        options.h2c = small(s, 4);
        options.chunk = small(s, 100);
        OPEN(MSM, xdma_msm, xdma_msm_open(any(s, CARD), below(s, 2) ? &options : NULL, out));
        break;
    case 1:
        OPEN(POINTS, xdma_points, xdma_points_allocate(any(s, CARD), number(s), out));
        break;
    case 2:
        OPEN(SCALARS, xdma_scalars, xdma_scalars_allocate(any(s, CARD), number(s), small(s, 2), out));
        break;
    case 3:
        if (s->registered < 8) {
            OPEN(POINTS, xdma_points, xdma_points_register(any(s, CARD), s->kept[s->registered++], size / 64, out));
        }
        break;
    case 4:
        CALL(xdma_points_write(any(s, POINTS), number(s), OUT(s->bytes[0]), size / 64));
        CALL(xdma_points_check(any(s, POINTS)));
        break;
    case 5:
        CALL(xdma_scalars_write(any(s, SCALARS), number(s), OUT(s->bytes[0]), size / 32));
        CALL(xdma_scalars_check(any(s, SCALARS)));
        break;
    case 6:
        CALL(xdma_scalars_get_data(any(s, SCALARS), OUT(data)));
        CALL(xdma_msm_get_design(any(s, MSM), OUT(design)));
        break;
    case 7:
        OPEN(JOB, xdma_job, xdma_msm_prepare(any(s, MSM), any(s, POINTS), number(s), any(s, SCALARS), number(s), number(s), out));
        break;
    case 8:
        OPEN(JOB, xdma_job, xdma_msm_prepare(any(s, MSM), any(s, POINTS), 0, any(s, SCALARS), 0, below(s, 100), out));
        break;
    case 9:
        CALL(xdma_msm_submit(any(s, MSM), any(s, JOB), OUT(s->msm_ticket)));
        break;
    case 10:
        CALL(xdma_msm_poll(any(s, MSM), msm_ticket(s), OUT(result)));
        CALL(xdma_msm_poll_accepted(any(s, MSM), msm_ticket(s)));
        CALL(xdma_msm_wait(any(s, MSM), msm_ticket(s), limit(s), OUT(result)));
        break;
    case 11:
        CALL(xdma_msm_describe(any(s, MSM), (char *)s->bytes, size, NULL));
        CALL(below(s, 2) ? xdma_msm_set_label(any(s, MSM), (uint32_t)next(s)) : xdma_msm_recover(any(s, MSM)));
        break;
    case 12:
        CALL(below(s, 2) ? xdma_msm_detach(any(s, MSM)) : xdma_msm_attach(any(s, MSM)));
        CALL(below(s, 4) ? xdma_job_close(any(s, JOB)) : xdma_msm_close(any(s, MSM)));
        break;
    case 13:
        CALL(below(s, 2) ? xdma_points_close(any(s, POINTS)) : xdma_scalars_close(any(s, SCALARS)));
        break;
    }
}

static void *run(void *argument) {
    static void (*const calls[])(struct state *) = {call_card,    call_buffer,  call_buffer,   call_channel, call_channel,
                                                    call_channel, call_program, call_receiver, call_msm};
    struct state *s = argument;
    for (long count = 0; count < calls_of_thread; count++) {
        calls[below(s, sizeof calls / sizeof *calls)](s);
    }
    return NULL;
}

/* Closes everything that is open, in the order in which objects depend on each other. Most handles were closed before. */
static void close_all(void) {
    static const enum kind order[] = {JOB, PROGRAM, INTERRUPT, RECEIVER, CHANNEL, MSM, POINTS, SCALARS, BUFFER, CARD};
    for (size_t at = 0; at < KINDS; at++) {
        for (size_t thread = 0; thread < THREADS; thread++) {
            struct list *list = &states[thread].lists[order[at]];
            for (size_t number = 0; number < list->count; number++) {
                void *handle = list->handles[number];
                xdma_status status = XDMA_OK;
                switch (order[at]) {
                case JOB:
                    status = xdma_job_close(handle);
                    break;
                case PROGRAM:
                    status = xdma_program_close(handle);
                    break;
                case INTERRUPT:
                    status = xdma_interrupt_close(handle);
                    break;
                case RECEIVER:
                    (void)xdma_receiver_attach(handle);
                    status = xdma_receiver_close(handle);
                    break;
                case CHANNEL:
                    (void)xdma_channel_attach(handle);
                    status = xdma_channel_close(handle);
                    break;
                case MSM:
                    (void)xdma_msm_attach(handle);
                    status = xdma_msm_close(handle);
                    break;
                case POINTS:
                    status = xdma_points_close(handle);
                    break;
                case SCALARS:
                    status = xdma_scalars_close(handle);
                    break;
                case BUFFER:
                    status = xdma_buffer_close(handle);
                    break;
                default:
                    status = xdma_card_close(handle);
                }
                /* A transfer may have stalled the engine. */
                ANY_OF(status, XDMA_OK, XDMA_ERROR_HANDLE, XDMA_ERROR_HUNG);
            }
            list->count = 0;
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const char *calls = getenv("CALLS");
    if (calls != NULL) {
        calls_of_thread = atol(calls);
    }
    for (int at = 0; at < 2; at++) {
        names[at] = argv[at + 1];
    }
    for (int thread = 0; thread < THREADS; thread++) {
        states[thread].random = SEED + (uint64_t)thread;
    }
    run(&states[0]);
    close_all();

    pthread_t threads[THREADS];
    for (int thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_create(&threads[thread], NULL, run, &states[thread]) == 0);
    }
    for (int thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_join(threads[thread], NULL) == 0);
    }
    close_all();
    for (int thread = 0; thread < THREADS; thread++) {
        printf("%ld calls succeeded, %ld failed\n", states[thread].succeeded, states[thread].failed);
        CHECK(states[thread].succeeded > calls_of_thread / 50 && states[thread].failed > calls_of_thread / 50);
    }
    puts("passed");
    return 0;
}
