/* Checks for the test programs. A check that fails prints its line and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xdma.h>

#define LIMIT XDMA_SECONDS(10)
/* A register of the emulated user logic that drives its interrupt lines. */
#define USER_IRQ_REGISTER 0xd00

static inline void check_that(int line, const char *text, int holds) {
    if (!holds) {
        fprintf(stderr, "line %d: %s does not hold\n", line, text);
        exit(1);
    }
}

static inline void check_status(int line, const char *text, xdma_status expected, xdma_status status) {
    if (status != expected) {
        const xdma_error *error = xdma_last_error();
        fprintf(stderr, "line %d: %s returned %s instead of %s; last error: %s\n", line, text, xdma_status_name(status),
                xdma_status_name(expected), error->message);
        exit(1);
    }
    if (status < 0) {
        const xdma_error *error = xdma_last_error();
        check_that(line, "the error has its status", error->status == status);
        check_that(line, "the error has a remedy", error->remedy != XDMA_REMEDY_NONE);
        check_that(line, "the error has a message and advice", strlen(error->message) > 10 && strlen(error->advice) > 5);
    }
}

/* Checks a status that may be one of several. */
static inline void check_allowed(int line, xdma_status status, int allowed) {
    if (!allowed) {
        fprintf(stderr, "line %d: %s is not expected; last error: %s\n", line, xdma_status_name(status),
                xdma_last_error()->message);
        exit(1);
    }
}

#define CHECK(condition) check_that(__LINE__, #condition, !!(condition))
/* The call succeeds. */
#define OK(call) check_status(__LINE__, #call, XDMA_OK, (call))
/* The call fails with this status. */
#define FAILS(status, call) check_status(__LINE__, #call, (status), (call))
/* The status that a call returned is one of these. */
#define EITHER(status, first, second) check_allowed(__LINE__, (status), (status) == (first) || (status) == (second))
#define ANY_OF(status, first, second, third) \
    check_allowed(__LINE__, (status), (status) == (first) || (status) == (second) || (status) == (third))

#endif
