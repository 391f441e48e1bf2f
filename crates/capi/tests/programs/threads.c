/* Handles in several threads and in child processes: misuse is an error, never undefined behaviour. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static xdma_card *card;
static xdma_buffer *buffer;
static atomic_int stop;

/* A channel that another thread opened. */
static void *use_foreign(void *argument) {
    xdma_channel *channel = argument;
    xdma_ticket ticket = {0, 0};
    CHECK(xdma_last_error()->status == XDMA_OK); /* each thread has its own */
    FAILS(XDMA_ERROR_THREAD, xdma_submit(channel, buffer, 0, 64, 0, &ticket));
    FAILS(XDMA_ERROR_THREAD, xdma_poll(channel, ticket));
    FAILS(XDMA_ERROR_THREAD, xdma_wait(channel, ticket, 0));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_stop(channel));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_detach(channel));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_attach(channel));
    FAILS(XDMA_ERROR_THREAD, xdma_channel_close(channel));
    return NULL;
}

/* A channel that its thread detached. */
static void *adopt(void *argument) {
    xdma_channel *channel = argument;
    OK(xdma_channel_attach(channel));
    OK(xdma_transfer(channel, buffer, 0, 64, 0, LIMIT));
    return NULL; /* still attached: ending the thread detaches it */
}

/* Two threads that use one buffer. Each call succeeds, or fails because of the other one. */
static void *send_until_stopped(void *argument) {
    xdma_channel *channel = argument;
    OK(xdma_channel_attach(channel));
    int sent = 0;
    while (!stop || sent == 0) {
        xdma_status status = xdma_transfer(channel, buffer, 0, 64, 0, LIMIT);
        EITHER(status, XDMA_OK, XDMA_ERROR_BUSY);
        sent += status == XDMA_OK;
    }
    OK(xdma_channel_detach(channel));
    return NULL;
}

/* Buffers that one thread closes while another one uses them, through handles that are reused all the time. */
static void *guess(void *argument) {
    _Atomic(xdma_buffer *) *current = argument;
    while (!stop) {
        char byte;
        xdma_status status = xdma_buffer_read(*current, 0, &byte, 1);
        ANY_OF(status, XDMA_OK, XDMA_ERROR_BUSY, XDMA_ERROR_HANDLE);
    }
    return NULL;
}

static atomic_int waits;

static void *wait_for_interrupt(void *argument) {
    uint64_t count = 0;
    waits = 1;
    OK(xdma_interrupt_wait(argument, LIMIT, &count));
    CHECK(count > 0);
    return NULL;
}

/* Threads that close one handle at the same time: one of them succeeds. */
static atomic_int closed, ready;

static void *close_buffer(void *argument) {
    ready++;
    while (ready < 2) {
        sched_yield();
    }
    xdma_status status = xdma_buffer_close(argument);
    ANY_OF(status, XDMA_OK, XDMA_ERROR_BUSY, XDMA_ERROR_HANDLE);
    closed += status == XDMA_OK;
    return NULL;
}

static void race_to_close(void) {
    for (int round = 0; round < 200; round++) {
        pthread_t threads[2];
        xdma_buffer *both = NULL;
        OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &both));
        closed = ready = 0;
        for (int at = 0; at < 2; at++) {
            CHECK(pthread_create(&threads[at], NULL, close_buffer, both) == 0);
        }
        CHECK(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
        CHECK(closed == 1);
    }
}

static void run(void *(*body)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void child_processes(xdma_channel *channel, const char *name) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        xdma_ticket ticket = {0, 0};
        xdma_card *second = NULL;
        FAILS(XDMA_ERROR_HANDLE, xdma_submit(channel, buffer, 0, 64, 0, &ticket));
        FAILS(XDMA_ERROR_HANDLE, xdma_channel_close(channel));
        FAILS(XDMA_ERROR_HANDLE, xdma_card_close(card));
        FAILS(XDMA_ERROR_FORKED, xdma_card_open(name, NULL, &second));
        FAILS(XDMA_ERROR_FORKED, xdma_log(XDMA_LOG_INFO, 2));
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(xdma_transfer(channel, buffer, 0, 64, 0, LIMIT));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    OK(xdma_card_open(argv[1], NULL, &card));
    OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &buffer));
    xdma_channel *channel = NULL, *second = NULL;
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &channel));
    OK(xdma_channel_open(card, XDMA_H2C, 1, NULL, &second));

    run(use_foreign, channel);
    OK(xdma_channel_detach(channel));
    run(adopt, channel);
    FAILS(XDMA_ERROR_THREAD, xdma_channel_check(channel));
    OK(xdma_channel_attach(channel));
    OK(xdma_transfer(channel, buffer, 0, 64, 0, LIMIT));

    /* Two channels, one buffer, and a third thread that writes the buffer. */
    pthread_t threads[2];
    OK(xdma_channel_detach(channel));
    OK(xdma_channel_detach(second));
    CHECK(pthread_create(&threads[0], NULL, send_until_stopped, channel) == 0);
    CHECK(pthread_create(&threads[1], NULL, send_until_stopped, second) == 0);
    for (int round = 0; round < 200; round++) {
        xdma_status status = xdma_buffer_write(buffer, 0, "x", 1);
        ANY_OF(status, XDMA_OK, XDMA_ERROR_BUSY, XDMA_ERROR_IN_FLIGHT);
    }
    stop = 1;
    CHECK(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
    OK(xdma_channel_attach(channel));
    OK(xdma_channel_attach(second));

    /* Closing and reusing a handle while another thread uses it. */
    stop = 0;
    _Atomic(xdma_buffer *) current = NULL;
    xdma_buffer *mine = NULL;
    OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &mine));
    current = mine;
    CHECK(pthread_create(&threads[0], NULL, guess, &current) == 0);
    for (int round = 0; round < 200; round++) {
        xdma_status status;
        while ((status = xdma_buffer_close(mine)) == XDMA_ERROR_BUSY) {
        }
        check_status(__LINE__, "xdma_buffer_close", XDMA_OK, status);
        OK(xdma_buffer_allocate(card, 64, XDMA_H2C, &mine));
        current = mine;
    }
    stop = 1;
    CHECK(pthread_join(threads[0], NULL) == 0);
    OK(xdma_buffer_close(mine));

    /* An interrupt that another thread waits for cannot be closed, nor can the card. */
    xdma_interrupt *interrupt = NULL;
    OK(xdma_interrupt_open_user(card, 0, &interrupt));
    CHECK(pthread_create(&threads[0], NULL, wait_for_interrupt, interrupt) == 0);
    while (!waits) {
    }
    usleep(500000);
    FAILS(XDMA_ERROR_BUSY, xdma_interrupt_close(interrupt));
    CHECK(xdma_last_error()->remedy == XDMA_REMEDY_TRY_AGAIN);
    OK(xdma_user_write(card, USER_IRQ_REGISTER, 1));
    CHECK(pthread_join(threads[0], NULL) == 0);
    OK(xdma_user_write(card, USER_IRQ_REGISTER, 0));
    OK(xdma_interrupt_close(interrupt));

    race_to_close();
    child_processes(channel, argv[1]);
    OK(xdma_channel_close(channel));
    OK(xdma_channel_close(second));
    OK(xdma_buffer_close(buffer));
    OK(xdma_card_close(card));
    puts("passed");
    return 0;
}
