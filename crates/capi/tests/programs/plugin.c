/* The shared library in a plugin: loaded with dlopen, and closed while a card is open. */
#include "check.h"
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

/* Looks a function up. ISO C has no conversion from `void *`. */
#define LOOK_UP(library, function) \
    do { \
        void *address = dlsym((library), #function); \
        CHECK(address); \
        memcpy(&call_##function, &address, sizeof address); \
    } while (0)

static xdma_status (*call_xdma_card_open)(const char *, const xdma_card_options *, xdma_card **);
static xdma_status (*call_xdma_card_close)(xdma_card *);
static xdma_status (*call_xdma_interrupt_open_user)(xdma_card *, uint32_t, xdma_interrupt **);
static xdma_status (*call_xdma_interrupt_close)(xdma_interrupt *);

static void *load(void) {
    void *library = dlopen("libxdma.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    LOOK_UP(library, xdma_card_open);
    LOOK_UP(library, xdma_card_close);
    LOOK_UP(library, xdma_interrupt_open_user);
    LOOK_UP(library, xdma_interrupt_close);
    return library;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(dlopen("libxdma.so.0", RTLD_NOW | RTLD_NOLOAD) == NULL); /* this program is not linked with it */
    for (int count = 0; count < 3; count++) {
        CHECK(dlclose(load()) == 0);
    }

    /* A card that is open has threads, and a handler for fork. */
    void *library = load();
    xdma_card *card = NULL;
    xdma_interrupt *interrupt = NULL;
    CHECK(call_xdma_card_open(argv[1], NULL, &card) == XDMA_OK);
    CHECK(call_xdma_interrupt_open_user(card, 0, &interrupt) == XDMA_OK);
    CHECK(dlclose(library) == 0);
    usleep(100000);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    /* The handles are still valid. */
    library = load();
    CHECK(call_xdma_card_close(card) == XDMA_ERROR_IN_USE);
    CHECK(call_xdma_interrupt_close(interrupt) == XDMA_OK);
    CHECK(call_xdma_card_close(card) == XDMA_OK);
    CHECK(dlclose(library) == 0);
    puts("passed");
    return 0;
}
