/* What the examples share: the end of a program whose call failed. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <xdma.h>

/* Prints cause and remedy, and ends the program, unless the call succeeded. */
static inline void expect_ok(xdma_status status, const char *what) {
    if (status != XDMA_OK) {
        const xdma_error *error = xdma_last_error();
        fprintf(stderr, "%s: %s: %s\n%s\n", what, xdma_status_name(status), error->message, error->advice);
        exit(1);
    }
}

#define EXPECT_OK(call) expect_ok((call), #call)

/* The name of the card: the first argument, or the environment variable XDMA_CARD. */
static inline const char *card_name(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : getenv("XDMA_CARD");
    if (!name) {
        fprintf(stderr, "usage: %s CARD, such as 0000:3b:00.0 or unix:/tmp/card.sock\n", argv[0]);
        exit(2);
    }
    return name;
}

#endif
