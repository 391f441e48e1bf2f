/* Processes that end in various ways while a card is open and transfers are in flight. After each, the card can be opened and used. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 1 << 20, TRANSFERS = 16 };

/* For AddressSanitizer: a process that ends in the middle of its work has not freed its memory. */
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

static const char *name;
static xdma_card *card;
static xdma_channel *channel;
static xdma_buffer *buffer;

static void start_transfers(void) {
    xdma_ticket ticket;
    OK(xdma_card_open(name, NULL, &card));
    OK(xdma_buffer_allocate(card, SIZE, XDMA_H2C, &buffer));
    OK(xdma_channel_open(card, XDMA_H2C, 0, NULL, &channel));
    for (int count = 0; count < TRANSFERS; count++) {
        OK(xdma_submit(channel, buffer, 0, SIZE, 0, &ticket));
    }
}

static void close_all(void) {
    OK(xdma_channel_close(channel));
    OK(xdma_buffer_close(buffer));
    OK(xdma_card_close(card));
}

static void leave(void) {
    exit(0);
}

static void leave_at_once(void) {
    _exit(0);
}

static void be_killed(void) {
    raise(SIGKILL);
}

/* Handlers of atexit, and destructors of static objects in C++, run after those of thread-local storage. */
static void close_in_handler(void) {
    CHECK(atexit(close_all) == 0);
    exit(0);
}

static void *exit_process(void *unused) {
    (void)unused;
    exit(0);
}

static void leave_in_thread(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, exit_process, NULL) == 0);
    for (;;) {
        OK(xdma_transfer(channel, buffer, 0, SIZE, 0, LIMIT));
    }
}

static void *close_in_thread(void *unused) {
    (void)unused;
    while (xdma_channel_attach(channel) == XDMA_ERROR_THREAD) {
        usleep(1000);
    }
    close_all();
    return NULL;
}

/* The main thread passes the channel on and ends before the process. */
static void leave_thread(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, close_in_thread, NULL) == 0);
    OK(xdma_channel_detach(channel));
    pthread_exit(NULL);
}

int main(int argc, char **argv) {
    static void (*const ends[])(void) = {leave, leave_at_once, be_killed, close_in_handler, leave_in_thread, leave_thread};
    CHECK(argc == 2);
    name = argv[1];
    for (size_t at = 0; at < sizeof ends / sizeof *ends; at++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            start_transfers();
            ends[at]();
        }
        int status = 1;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(ends[at] == be_killed ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    start_transfers();
    OK(xdma_transfer(channel, buffer, 0, SIZE, 0, LIMIT));
    close_all();
    puts("passed");
    return 0;
}
